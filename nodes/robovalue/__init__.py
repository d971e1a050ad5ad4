"""RoboValue's query contract, spoken by any source of scores: rules in one file, HTTP in another.

Example:
    >>> from robo_reward.client import local
    >>> from robo_reward.models.oracle_pixels import OraclePixels
    >>> source = local(OraclePixels())
    >>> with RoboValueServer(RoboValueConfig(bind="127.0.0.1:0")) as server:
    ...     server.start(Service(source)).url.startswith("http://127.0.0.1:")
    True
    >>> source.close()
"""

from .config import RoboValueConfig
from .server import RoboValueServer
from .service import Service

__all__ = ["RoboValueConfig", "RoboValueServer", "Service"]
