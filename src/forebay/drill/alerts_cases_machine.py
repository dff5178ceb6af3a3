"""The cases of what a server runs on and writes to: disks, memory, GPUs, stores, its log."""

from typing import Final

from forebay.drill import alerts_machine as machine
from forebay.drill.alerts_case import Case

_GPU: Final = "simulated NVML"

MACHINE: Final = (
    Case(
        name="memory taken",
        alerts=("MemoryNearLimit",),
        injected="a neighbour in the control group takes all memory but 5 %",
        plan=machine.in_a_group,
    ),
    Case(
        name="disk full",
        alerts=("DiskFull",),
        injected="a file that leaves 3 % of the disk of the state",
        plan=machine.on_a_disk(free=0.03),
        muted=frozenset({"DiskFilling"}),
    ),
    Case(
        name="disk filling",
        alerts=("DiskFilling",),
        injected="a file that leaves 10 % of the disk of the state",
        plan=machine.on_a_disk(free=0.10),
    ),
    Case(
        name="certificate with 12 hours left",
        alerts=("CertificateExpired",),
        injected="a certificate with 12 hours left",
        plan=machine.with_certificate(0.5),
        muted=frozenset({"CertificateExpiring"}),
    ),
    Case(
        name="certificate with 10 days left",
        alerts=("CertificateExpiring",),
        injected="a certificate with 10 days left",
        plan=machine.with_certificate(10.0),
    ),
    Case(
        name="GPU full",
        alerts=("GpuMemoryFull",),
        injected=f"97 % of a GPU's memory in use ({_GPU})",
        plan=machine.with_gpus(used=0.97),
        muted=frozenset({"GpuMemoryHigh"}),
    ),
    Case(
        name="GPU nearly full",
        alerts=("GpuMemoryHigh",),
        injected=f"92 % of a GPU's memory in use ({_GPU})",
        plan=machine.with_gpus(used=0.92),
    ),
    Case(
        name="GPU busy",
        alerts=("GpuBusy",),
        injected=f"a GPU that is busy 99 % of the time ({_GPU})",
        plan=machine.with_gpus(busy=99),
    ),
)

RECORDS: Final = (
    Case(
        name="Redis killed",
        alerts=("StoreDegraded",),
        injected="kill -9 of Redis",
        plan=machine.with_redis,
    ),
    Case(
        name="accounts locked",
        alerts=("AccountsDegraded",),
        injected="another process locks the accounts database",
        plan=machine.with_accounts(),
    ),
    Case(
        name="accounts locked for long",
        alerts=("UsageLost",),
        injected="the accounts database stays locked, with room for 20 rows of usage",
        plan=machine.with_accounts("budgets.rows_max=20"),
        companions=frozenset({"AccountsDegraded"}),
        speed=120.0,
    ),
    Case(
        name="log not read",
        alerts=("TelemetryDropped",),
        injected="nobody reads the pipe that the log goes to",
        plan=machine.with_a_reader_of_the_log,
        speed=120.0,
    ),
)
