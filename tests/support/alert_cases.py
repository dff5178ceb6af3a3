"""Every case of every alert."""

from typing import Final

from tests.support.alert_case import Case
from tests.support.alert_cases_machine import MACHINE_CASES
from tests.support.alert_cases_model import MODEL_CASES
from tests.support.alert_cases_service import SERVICE_CASES

CASES: Final[tuple[Case, ...]] = (*SERVICE_CASES, *MODEL_CASES, *MACHINE_CASES)
