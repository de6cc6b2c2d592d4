"""A client of the gRPC health service: ADDRESS METHOD SERVICE.

Prints the status of every answer, and in the end the code of the call.
"""

import sys

import grpc

# Messages of one field each: the name of the service, and an enumeration.
STATUSES = {0: "UNKNOWN", 1: "SERVING", 2: "NOT_SERVING", 3: "SERVICE_UNKNOWN"}


def encode(service):
    name = service.encode()
    return b"\x0a" + bytes([len(name)]) + name if name else b""


def decode(message):
    assert message == b"" or (len(message), message[0]) == (2, 0x08), message
    return STATUSES[message[1] if message else 0]


def main(address, method, service):
    coders = {"request_serializer": encode, "response_deserializer": decode}
    path = f"/grpc.health.v1.Health/{method}"
    with grpc.insecure_channel(address) as channel:
        try:
            if method == "Watch":
                for status in channel.unary_stream(path, **coders)(service, timeout=60):
                    print(status, flush=True)
            else:
                print(channel.unary_unary(path, **coders)(service, timeout=10))
            print("OK")
        except grpc.RpcError as error:
            print(error.code().name)


main(*sys.argv[1:])
