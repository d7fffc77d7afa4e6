"""`python -m fdtcc_dagster.cli`: the command `fdtcc`, where it is not on the PATH."""

from fdtcc_dagster.cli.main import main

if __name__ == "__main__":
    main(prog_name="fdtcc")
