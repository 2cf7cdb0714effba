from fsd.client.opening import open_store as open_store
from fsd.runs.reporting import log_metric as log_metric
from fsd.runs.reporting import log_params as log_params
from fsd.shuffle import BUFFER_BYTES as BUFFER_BYTES
from fsd.shuffle import Shuffled as Shuffled
from fsd.shuffle import shuffled as shuffled
