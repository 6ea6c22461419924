"""What is a score worth? Networks ranked by cheap scores, beside their ranking after much longer training."""

from nas.auditing.api import AuditInterrupted, audit
from nas.auditing.ranking import Ranked
from nas.auditing.result import AuditResult

__all__ = ["AuditInterrupted", "AuditResult", "Ranked", "audit"]
