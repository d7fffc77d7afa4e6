"""First version: the five jobs of the first bound."""
import argparse, shutil, statistics, sys, os, time
from pathlib import Path
from benchmarks.data import make_csv, rows_of
from benchmarks.site import sandbox, announced, run_job, HOST
import polars as pl

WINDOW = ("2025-01-05T00:00:00+00:00", "2025-01-05T23:59:59+00:00")

def main():
    p = argparse.ArgumentParser()
    p.add_argument("--size", type=float, default=1000, help="MB")
    p.add_argument("--rounds", type=int, default=3)
    p.add_argument("--dir", type=Path, default=Path("/dev/shm/fdtcc-bench"))
    p.add_argument("--only", default="")
    o = p.parse_args()
    size = int(o.size * 1e6)
    work = o.dir / "work"; shutil.rmtree(work, ignore_errors=True); work.mkdir(parents=True)
    root = o.dir / f"root-{size}"
    started = time.time()
    csv = make_csv(root / "big" / "2025-01-05T04-00-00Z.csv", size)
    print(f"{csv} {csv.stat().st_size/1e6:.0f} MB, made in {time.time()-started:.1f} s", flush=True)
    with sandbox(root, o.dir) as port:
        pointer = announced(port, "big", *WINDOW)
        ours = dict(port=port, dataset="big", key="2025-01-05", base_dir=str(work), spool=str(work))
        jobs = {
            "curl": ("baselines.curl", dict(url=f"http://{HOST}:{port}/fdtc-api/dataset/download/csv/{pointer}", target=str(work / "curl.csv"))),
            "sha256": ("baselines.sha256", dict(path=str(csv))),
            "sink": ("baselines.polars_sink", dict(path=str(csv), target=str(work / "sink.parquet"))),
            "reference": ("baselines.reference", dict(host=HOST, port=port, dataset="big", from_dt=WINDOW[0], to_dt=WINDOW[1], target=str(work / "reference.parquet"))),
            "ours": ("ours.store", ours | dict(typed=True)),
            "inferred": ("ours.store", ours | dict(typed=False)),
        }
        jobs = {k: v for k, v in jobs.items() if not o.only or k in o.only.split(",")}
        seconds = {k: [] for k in jobs}; peak = {k: [] for k in jobs}
        for _ in range(o.rounds):
            for name, (job, arguments) in jobs.items():
                result = run_job(job, **arguments)
                seconds[name].append(result["seconds"]); peak[name].append(result["peak_mb"])
                for path in result.get("paths", [result.get("path")] if "path" in result else []):
                    if path.endswith(".parquet"):
                        rows = pl.scan_parquet(path).select(pl.len()).collect().item()
                        assert rows == rows_of(size), (name, rows)
                shutil.rmtree(work); work.mkdir()
        for name in jobs:
            s = seconds[name]
            print(f"{name:10} median {statistics.median(s):6.2f} s  ({min(s):.2f} … {max(s):.2f})  peak {max(peak[name]):6.0f} MB", flush=True)
        m = {k: statistics.median(v) for k, v in seconds.items()}
        if {"curl", "sink"} <= m.keys():
            for k in m.keys() & {"ours", "inferred", "reference"}:
                print(f"{k} / (curl + sink) = {m[k] / (m['curl'] + m['sink']):.2f}")
main()
