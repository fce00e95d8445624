// Any bytes as a pickle: parses or is refused, and then every value that can be reached is a value, however they are
// shared or nested.
#include <array>
#include <string>
#include <vector>

#include "base/check.h"
#include "formats/pickle.h"

namespace sluice::formats {
namespace {

using Role = PickleGlobal::Role;

constexpr std::array<PickleGlobal, 5> kGlobals = {{
    {"torch", "float32", Role::kConstant},
    {"torch", "FloatStorage", Role::kConstant},
    {"torch._utils", "_rebuild_tensor_v2", Role::kFunction},
    {"torch", "Size", Role::kClass},
    {"collections", "OrderedDict", Role::kDict},
}};

void Walk(const Pickle& pickle, size_t size) {
  std::vector<Pickle::Id> todo = {pickle.root()};
  std::vector<bool> seen;
  const auto visit = [&](Pickle::Id value) {
    if (value >= seen.size()) seen.resize(value + 1);
    if (!seen[value]) todo.push_back(value);
    seen[value] = true;
  };
  while (!todo.empty()) {
    const Pickle::Id value = todo.back();
    todo.pop_back();
    SLUICE_CHECK(pickle.offset(value) < size);
    switch (pickle.kind(value)) {
      case Pickle::Kind::kInt:
        (void)pickle.integer(value);
        break;
      case Pickle::Kind::kText:
      case Pickle::Kind::kBytes:
        SLUICE_CHECK(pickle.text(value).size() < size);
        break;
      case Pickle::Kind::kTuple:
        for (const Pickle::Id item : pickle.tuple(value)) visit(item);
        break;
      case Pickle::Kind::kList:
        SLUICE_CHECK(pickle.list(value).empty() == pickle.is_empty(value));
        for (const Pickle::Id item : pickle.list(value)) visit(item);
        break;
      case Pickle::Kind::kDict:
        SLUICE_CHECK(pickle.dict(value).empty() == pickle.is_empty(value));
        for (const Pickle::Item& item : pickle.dict(value)) {
          visit(item.key);
          visit(item.value);
        }
        break;
      case Pickle::Kind::kGlobal:
        SLUICE_CHECK(pickle.global(value) < kGlobals.size());
        break;
      case Pickle::Kind::kCall:
        SLUICE_CHECK(kGlobals[pickle.global(value)].role != Role::kConstant);
        SLUICE_CHECK(pickle.kind(pickle.arguments(value)) == Pickle::Kind::kTuple);
        visit(pickle.arguments(value));
        break;
      case Pickle::Kind::kPersistent:
        visit(pickle.persistent_id(value));
        break;
      default:
        break;
    }
  }
}

}  // namespace
}  // namespace sluice::formats

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace sluice::formats;
  const auto pickle = Pickle::Parse(std::string(reinterpret_cast<const char*>(data), size), kGlobals, {"input"});
  if (pickle) {
    Walk(*pickle, size);
    return 0;
  }
  const sluice::Error& error = pickle.error();
  SLUICE_CHECK(error.code == sluice::ErrorCode::kCorrupt || error.code == sluice::ErrorCode::kUnsupported);
  SLUICE_CHECK(error.message.starts_with("byte ") && error.message.find('\n') == std::string::npos);
  return 0;
}
