#include "base/cgroup.h"

#include <algorithm>
#include <charconv>
#include <fstream>
#include <iterator>
#include <string_view>
#include <vector>

namespace sluice {
namespace {

std::optional<std::string> ReadText(const std::string& path) {
  std::ifstream file(path);
  if (!file) return std::nullopt;
  return std::string(std::istreambuf_iterator<char>(file), {});
}

// The number at the start of `text`; nothing for "max", "-1" or an empty file.
std::optional<uint64_t> LeadingNumber(std::string_view text) {
  uint64_t value = 0;
  const auto parsed = std::from_chars(text.data(), text.data() + text.size(), value);
  if (parsed.ec != std::errc()) return std::nullopt;
  return value;
}

std::optional<uint64_t> ReadNumber(const std::string& path) {
  const std::optional<std::string> text = ReadText(path);
  return text ? LeadingNumber(*text) : std::nullopt;
}

// The number that follows `key` at the start of a line of `text`.
std::optional<uint64_t> NumberAfter(std::string_view text, std::string_view key) {
  while (!text.empty()) {
    const size_t end = std::min(text.find('\n'), text.size());
    std::string_view line = text.substr(0, end);
    text.remove_prefix(std::min(end + 1, text.size()));
    if (!line.starts_with(key)) continue;
    line.remove_prefix(key.size());
    while (!line.empty() && (line.front() == ' ' || line.front() == '\t')) line.remove_prefix(1);
    return LeadingNumber(line);
  }
  return std::nullopt;
}

// Where the process's group for `controller` lies: v2's where version is 2, else v1's.
std::optional<std::string> GroupPath(const std::string& root, int version, std::string_view controller) {
  const std::optional<std::string> groups = ReadText(root + "/proc/self/cgroup");
  if (!groups) return std::nullopt;
  std::string_view text = *groups;
  while (!text.empty()) {  // lines "id:controllers:path"; v2's is "0::path"
    const size_t end = std::min(text.find('\n'), text.size());
    const std::string_view line = text.substr(0, end);
    text.remove_prefix(std::min(end + 1, text.size()));
    const size_t first = line.find(':');
    const size_t second = first == line.npos ? line.npos : line.find(':', first + 1);
    if (second == line.npos) continue;
    const std::string_view controllers = line.substr(first + 1, second - first - 1);
    const std::string path(line.substr(second + 1));
    if (version == 2
            ? controllers.empty()
            : ("," + std::string(controllers) + ",").find("," + std::string(controller) + ",") != std::string::npos) {
      return path;
    }
  }
  return std::nullopt;
}

// Calls visit(folder) for the group's folder and all above it, up to the mount.
template <class Visit>
void ForEachLevel(const std::string& mount, std::string path, Visit visit) {
  while (path.size() > 1) {
    if (path.back() != '/') visit(mount + path);
    const size_t slash = path.rfind('/');
    path.resize(slash == path.npos ? 0 : slash);
  }
  visit(mount);
}

std::vector<std::string> MountsV2(const std::string& root) {
  return {root + "/sys/fs/cgroup", root + "/sys/fs/cgroup/unified"};
}

void TakeSmaller(std::optional<uint64_t> candidate, std::optional<uint64_t>* smallest) {
  if (candidate && (!*smallest || *candidate < **smallest)) *smallest = candidate;
}

// What `limit` leaves above what is used and not page cache that can be dropped.
std::optional<uint64_t> FreeUnder(const std::string& folder, const char* limit_file, const char* usage_file,
                                  const char* droppable_key) {
  const std::optional<uint64_t> limit = ReadNumber(folder + limit_file);
  // v1 writes a number near 2^63 for "no limit".
  if (!limit || *limit >= uint64_t{1} << 62) return std::nullopt;
  const uint64_t usage = ReadNumber(folder + usage_file).value_or(0);
  const uint64_t droppable = NumberAfter(ReadText(folder + "/memory.stat").value_or(""), droppable_key).value_or(0);
  const uint64_t held = usage - std::min(usage, droppable);
  return *limit - std::min(*limit, held);
}

}  // namespace

std::optional<uint64_t> CgroupFreeMemoryBytes(const std::string& root) {
  std::optional<uint64_t> smallest;
  if (const auto path = GroupPath(root, 2, "")) {
    for (const std::string& mount : MountsV2(root)) {
      ForEachLevel(mount, *path, [&](const std::string& folder) {
        TakeSmaller(FreeUnder(folder, "/memory.max", "/memory.current", "inactive_file "), &smallest);
      });
    }
  }
  if (const auto path = GroupPath(root, 1, "memory")) {
    ForEachLevel(root + "/sys/fs/cgroup/memory", *path, [&](const std::string& folder) {
      TakeSmaller(FreeUnder(folder, "/memory.limit_in_bytes", "/memory.usage_in_bytes", "total_inactive_file "),
                  &smallest);
    });
  }
  return smallest;
}

std::optional<int> CgroupProcessors(const std::string& root) {
  std::optional<uint64_t> smallest;
  const auto take = [&](std::optional<uint64_t> quota, std::optional<uint64_t> period) {
    if (quota && period && *quota > 0 && *period > 0) TakeSmaller((*quota + *period - 1) / *period, &smallest);
  };
  if (const auto path = GroupPath(root, 2, "")) {
    for (const std::string& mount : MountsV2(root)) {
      ForEachLevel(mount, *path, [&](const std::string& folder) {
        const std::string text = ReadText(folder + "/cpu.max").value_or("");  // "quota period" or "max period"
        const size_t space = text.find(' ');
        if (space != text.npos) take(LeadingNumber(text), LeadingNumber(std::string_view(text).substr(space + 1)));
      });
    }
  }
  if (const auto path = GroupPath(root, 1, "cpu")) {
    for (const char* mount : {"/sys/fs/cgroup/cpu", "/sys/fs/cgroup/cpu,cpuacct"}) {
      ForEachLevel(root + mount, *path, [&](const std::string& folder) {
        take(ReadNumber(folder + "/cpu.cfs_quota_us"), ReadNumber(folder + "/cpu.cfs_period_us"));
      });
    }
  }
  if (!smallest) return std::nullopt;
  return static_cast<int>(std::min<uint64_t>(*smallest, 1 << 20));
}

uint64_t MachineFreeMemoryBytes(const std::string& root) {
  const std::string text = ReadText(root + "/proc/meminfo").value_or("");
  return NumberAfter(text, "MemAvailable:").value_or(0) * 1024;
}

}  // namespace sluice
