// What the process's control group leaves it: memory and processors, for cgroup v2, v1 and the mix of both.
//
// `root` stands before /proc and /sys, so that a test can lay out a machine of its own; "" is this machine. A limit may
// be set anywhere between the process's group and the top, so every level is looked at and the tightest counts. In a
// container the group's own path is often not mounted; then what is mounted at the top is the container's group.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

namespace sluice {

// Bytes under the tightest memory limit, less what is used there and cannot be dropped (page cache that was read once
// can). Nothing where no group sets a limit.
std::optional<uint64_t> CgroupFreeMemoryBytes(const std::string& root = "");

// Processors that the tightest quota allows, rounded up, at least 1. Nothing where no group sets a quota.
std::optional<int> CgroupProcessors(const std::string& root = "");

// MemAvailable of /proc/meminfo, 0 where it cannot be read.
uint64_t MachineFreeMemoryBytes(const std::string& root = "");

}  // namespace sluice
