module hostmesh.io/bench/load

go 1.22
