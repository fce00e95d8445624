#include "base/cgroup.h"

#include <gtest/gtest.h>

#include <unistd.h>

#include <filesystem>
#include <fstream>

namespace sluice {
namespace {

constexpr uint64_t kMi = 1 << 20;

// A machine of our own, under a temporary folder.
class CgroupTest : public testing::Test {
 protected:
  CgroupTest() {
    const auto* test = testing::UnitTest::GetInstance()->current_test_info();
    root_ = testing::TempDir() + "sluice_cgroup_" + test->name() + "_" + std::to_string(getpid());
  }
  ~CgroupTest() override { std::filesystem::remove_all(root_); }

  void Write(const std::string& path, const std::string& text) {
    std::filesystem::create_directories(std::filesystem::path(root_ + path).parent_path());
    std::ofstream(root_ + path) << text;
  }
  std::string root_;
};

TEST_F(CgroupTest, NothingThereIsNoLimit) {
  EXPECT_EQ(CgroupFreeMemoryBytes(root_), std::nullopt);
  EXPECT_EQ(CgroupProcessors(root_), std::nullopt);
  EXPECT_EQ(MachineFreeMemoryBytes(root_), 0u);
}

TEST_F(CgroupTest, Meminfo) {
  Write("/proc/meminfo", "MemTotal:       24682084 kB\nMemFree:         100 kB\nMemAvailable:   23985152 kB\n");
  EXPECT_EQ(MachineFreeMemoryBytes(root_), uint64_t{23985152} * 1024);
}

TEST_F(CgroupTest, Version2TakesTheTightestLevel) {
  Write("/proc/self/cgroup", "0::/user.slice/job.scope\n");
  Write("/sys/fs/cgroup/user.slice/memory.max", "1073741824\n");
  Write("/sys/fs/cgroup/user.slice/memory.current", "1048576000\n");
  Write("/sys/fs/cgroup/user.slice/memory.stat", "anon 1\nfile 2\ninactive_file 104857600\n");
  Write("/sys/fs/cgroup/user.slice/job.scope/memory.max", "max\n");
  Write("/sys/fs/cgroup/user.slice/job.scope/memory.current", "5\n");
  Write("/sys/fs/cgroup/user.slice/cpu.max", "250000 100000\n");
  Write("/sys/fs/cgroup/user.slice/job.scope/cpu.max", "max 100000\n");
  EXPECT_EQ(CgroupFreeMemoryBytes(root_), 1073741824u - (1048576000u - 104857600u));
  EXPECT_EQ(CgroupProcessors(root_), 3);  // 2.5, rounded up
}

TEST_F(CgroupTest, Version2InAContainer) {
  Write("/proc/self/cgroup", "0::/\n");
  Write("/sys/fs/cgroup/memory.max", "268435456\n");
  Write("/sys/fs/cgroup/memory.current", "1048576\n");
  Write("/sys/fs/cgroup/cpu.max", "50000 100000\n");
  EXPECT_EQ(CgroupFreeMemoryBytes(root_), 255 * kMi);
  EXPECT_EQ(CgroupProcessors(root_), 1);
}

TEST_F(CgroupTest, Version1) {
  Write("/proc/self/cgroup", "4:memory:/docker/abc\n3:cpu,cpuacct:/docker/abc\n2:memoryish:/wrong\n0::/\n");
  // The group's own path is not mounted, as in a container: the mount is the group.
  Write("/sys/fs/cgroup/memory/memory.limit_in_bytes", "536870912\n");
  Write("/sys/fs/cgroup/memory/memory.usage_in_bytes", "11534336\n");
  Write("/sys/fs/cgroup/memory/memory.stat", "inactive_file 1\ntotal_inactive_file 1048576\n");
  Write("/sys/fs/cgroup/cpu,cpuacct/cpu.cfs_quota_us", "400000\n");
  Write("/sys/fs/cgroup/cpu,cpuacct/cpu.cfs_period_us", "100000\n");
  EXPECT_EQ(CgroupFreeMemoryBytes(root_), 502 * kMi);
  EXPECT_EQ(CgroupProcessors(root_), 4);
}

TEST_F(CgroupTest, Version1WithoutLimits) {
  Write("/proc/self/cgroup", "4:memory:/a\n3:cpu:/a\n");
  Write("/sys/fs/cgroup/memory/a/memory.limit_in_bytes", "9223372036854771712\n");
  Write("/sys/fs/cgroup/memory/a/memory.usage_in_bytes", "11534336\n");
  Write("/sys/fs/cgroup/cpu/a/cpu.cfs_quota_us", "-1\n");
  Write("/sys/fs/cgroup/cpu/a/cpu.cfs_period_us", "100000\n");
  EXPECT_EQ(CgroupFreeMemoryBytes(root_), std::nullopt);
  EXPECT_EQ(CgroupProcessors(root_), std::nullopt);
}

TEST_F(CgroupTest, MoreUsedThanAllowedLeavesNothing) {
  Write("/proc/self/cgroup", "0::/\n");
  Write("/sys/fs/cgroup/memory.max", "1000\n");
  Write("/sys/fs/cgroup/memory.current", "2000\n");
  EXPECT_EQ(CgroupFreeMemoryBytes(root_), 0u);
}

}  // namespace
}  // namespace sluice
