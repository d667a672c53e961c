"""Driver errors of which it matters whether the GPU can be used afterwards."""

#: ``CUresult`` -> `Remedy`. 3: forked child; 46: another process holds the GPU; 701: a launch asked
#: for too many registers.
ACTIONS = {
    1: "", 2: "smaller-batch", 3: "", 4: "restart", 46: "", 700: "restart", 701: "",
    709: "restart", 710: "restart", 716: "restart", 719: "restart", 999: "restart",
}  # fmt: skip
