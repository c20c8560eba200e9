"""A double of the Livepeer gateway: a real HTTP server that really transcodes, and fails when told to.

It follows go-livepeer 0.9.1 (`--dialect upstream`) or the FrameWorks fork (`--dialect frameworks`).
No gateway can be had from a package registry; what is checked against this is checked against a double.

From a checkout:

    python tests/doubles/livepeer_gateway --port 8935 --preset ultrafast

    curl -X POST -H 'Accept: multipart/mixed' -H 'Content-Duration: 2000' \\
         --data-binary @segment.ts http://127.0.0.1:8935/live/movie-1/0.ts

It prints one line of JSON, {"url": ..., "control": ...}. In tests, with `tests/doubles` on sys.path:

    from livepeer_gateway.running import RunningGateway

    with RunningGateway("--preset", "ultrafast", "--latency", "0.2") as gateway:
        push_to(gateway.url)
        gateway.fault("cut", times=1)              # `faults.KINDS` has all; `sequence`, `first`, `skip`, ...
        gateway.no_faults()
        gateway.refuse(); gateway.listen()         # connections refused, and taken again
        gateway.restart()                          # sessions and connections are lost
        gateway.control("orchestrators", 0)        # 503; 3 again afterwards
        gateway.control("script", ["busy", "ok"])  # what the next tries come to
        gateway.control("clock", 130)              # time passes: sessions idle out
        gateway.log()                              # headers, sha256, status, attempts, in_flight of each push

`--work remembered` keeps answers and gives them at once when the same bytes come again; `--work remux`
answers at once with the source's own packets in a new container, for benchmarks of the client alone.

Departures: `--preset`; hedging of FrameWorks is not simulated; encoders of HEVC, VP8 and VP9 are PyAV's.
"""
