"""A gRPC server and clients, with bytes for messages: UPSTREAM_ADDRESS GATEWAY_ADDRESS."""

import sys
import threading
import time
from concurrent import futures

import grpc

failures = {}
remaining = []


def fail(context, code, message, trailers=()):
    context.set_trailing_metadata(trailers)
    context.abort(code, message)


def unary(request, context):
    remaining.append(context.time_remaining())
    metadata = dict(context.invocation_metadata())
    text = request.decode()
    if text.startswith("flaky"):
        failures[text] = failures.get(text, 0) + 1
        if failures[text] < 3:
            assert metadata.get("grpc-previous-rpc-attempts", "0") == str(failures[text] - 1)
            fail(context, grpc.StatusCode.UNAVAILABLE, "not yet")
    if text.startswith("pushback"):
        failures[text] = failures.get(text, 0) + 1
        fail(context, grpc.StatusCode.UNAVAILABLE, "go away", (("grpc-retry-pushback-ms", "-1"),))
    if text == "missing":
        fail(context, grpc.StatusCode.NOT_FOUND, "there is no such thing")
    if text == "slow":
        time.sleep(3)
    return request


def server_stream(request, context):
    for number in range(int(request.decode())):
        yield str(number).encode()


def client_stream(requests, context):
    return str(sum(len(request) for request in requests)).encode()


def both(requests, context):
    for request in requests:
        yield request.upper()
        if request == b"break":
            fail(context, grpc.StatusCode.DATA_LOSS, "in the middle")


def serve(address):
    handlers = grpc.method_handlers_generic_handler(
        "test.Echo",
        {
            "Unary": grpc.unary_unary_rpc_method_handler(unary),
            "ServerStream": grpc.unary_stream_rpc_method_handler(server_stream),
            "ClientStream": grpc.stream_unary_rpc_method_handler(client_stream),
            "Both": grpc.stream_stream_rpc_method_handler(both),
        },
    )
    server = grpc.server(futures.ThreadPoolExecutor(max_workers=16))
    server.add_generic_rpc_handlers((handlers,))
    assert server.add_insecure_port(address) > 0
    server.start()
    return server


def code_of(call):
    try:
        call()
    except grpc.RpcError as error:
        return error.code()
    return grpc.StatusCode.OK


def main(upstream, gateway):
    channel = grpc.insecure_channel(gateway, options=[("grpc.enable_retries", 0)])
    echo = channel.unary_unary("/test.Echo/Unary")
    # Before the upstream is there, the gateway answers itself.
    assert code_of(lambda: echo(b"early", timeout=5)) == grpc.StatusCode.UNAVAILABLE
    server = serve(upstream)

    assert echo(b"hello", timeout=5) == b"hello"
    assert 0 < remaining[-1] < 5.0, remaining
    # gRPC calls are POSTs: they are made again only with a key.
    key = (("idempotency-key", "7"),)
    assert echo(b"flaky with a key", metadata=key, timeout=5) == b"flaky with a key"
    assert failures["flaky with a key"] == 3
    assert code_of(lambda: echo(b"flaky", timeout=5)) == grpc.StatusCode.UNAVAILABLE
    assert failures["flaky"] == 1
    # The server forbids another attempt.
    assert code_of(lambda: echo(b"pushback", metadata=key, timeout=5)) == grpc.StatusCode.UNAVAILABLE
    assert failures["pushback"] == 1, failures
    assert code_of(lambda: echo(b"missing", timeout=5)) == grpc.StatusCode.NOT_FOUND

    began = time.monotonic()
    assert code_of(lambda: echo(b"slow", timeout=0.5)) == grpc.StatusCode.DEADLINE_EXCEEDED
    assert time.monotonic() - began < 2.0

    stream = channel.unary_stream("/test.Echo/ServerStream")
    assert [int(number) for number in stream(b"1000", timeout=5)] == list(range(1000))
    upload = channel.stream_unary("/test.Echo/ClientStream")
    assert upload((b"x" * 10_000 for _ in range(100)), timeout=5) == b"1000000"

    both_ways = channel.stream_stream("/test.Echo/Both")
    ready = threading.Semaphore(0)

    def ask():
        for word in (b"one", b"two", b"three"):
            yield word
            # The next is sent when this one has been answered: nothing waits for the end.
            ready.acquire()

    answers = []
    for answer in both_ways(ask(), timeout=5):
        answers.append(answer)
        ready.release()
    assert answers == [b"ONE", b"TWO", b"THREE"], answers
    broken = both_ways(iter([b"a", b"break"]), timeout=5)
    assert code_of(lambda: list(broken)) == grpc.StatusCode.DATA_LOSS

    # Three streams take the three seats of the bulkhead.
    release = threading.Event()

    def hold():
        yield b"hold"
        release.wait(10)

    held = [both_ways(hold(), timeout=10) for _ in range(3)]
    assert [next(call) for call in held] == [b"HOLD"] * 3
    assert code_of(lambda: echo(b"full", timeout=5)) == grpc.StatusCode.RESOURCE_EXHAUSTED
    release.set()
    for call in held:
        assert list(call) == []
    assert echo(b"free again", timeout=5) == b"free again"

    stuck = both_ways(hold(), timeout=10)
    release.clear()
    assert next(stuck) == b"HOLD"
    server.stop(0)
    assert code_of(lambda: list(stuck)) in (
        grpc.StatusCode.UNAVAILABLE,
        grpc.StatusCode.CANCELLED,
    )


main(*sys.argv[1:])
