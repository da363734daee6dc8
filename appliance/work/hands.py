"""What a worker holds besides the house: the model process, the decoders, the network, the lanes."""

import msgspec

from appliance.house import House
from appliance.inference.client import Models
from appliance.media.decoders import Decoders
from appliance.outbound import Outbound
from appliance.text.engine import Engine


class Hands(msgspec.Struct, frozen=True):
    house: House
    models: Models
    decoders: Decoders
    outbound: Outbound
    engine: Engine
