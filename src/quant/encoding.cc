#include "quant/encoding.h"

#include <algorithm>
#include <vector>

#include "base/check.h"
#include "generated/encodings_table.inc"

namespace sluice::quant {
namespace {

// Built once, on first use. Names and GGUF numbers are ours to keep apart, so a clash is a mistake of ours.
const std::vector<Encoding>& Table() {
  static const std::vector<Encoding> table = [] {
    std::vector<Encoding> all;
    for (auto family : encodings::kTable) {
      for (const EncodingInfo& info : family()) {
        SLUICE_CHECK(info.block_elements > 0 && info.block_bytes > 0);
        for (const Encoding& other : all) {
          SLUICE_CHECK(other->name != info.name);
          SLUICE_CHECK(info.ggml_type < 0 || other->ggml_type != info.ggml_type);
          SLUICE_CHECK(info.safetensors_rank < 0 || other->safetensors_rank != info.safetensors_rank);
        }
        all.push_back(Encoding(&info));
      }
    }
    return all;
  }();
  return table;
}

Encoding MustHave(std::string_view name) {
  const Encoding encoding = EncodingByName(name);
  SLUICE_CHECK(encoding.valid());
  return encoding;
}

}  // namespace

std::span<const Encoding> AllEncodings() { return Table(); }

Encoding EncodingByName(std::string_view name) {
  const auto& table = Table();
  const auto found = std::find_if(table.begin(), table.end(), [&](Encoding e) { return e->name == name; });
  return found == table.end() ? Encoding() : *found;
}

Encoding EncodingByGgmlType(uint32_t type) {
  const auto& table = Table();
  const auto found = std::find_if(table.begin(), table.end(), [&](Encoding e) {
    return e->ggml_type >= 0 && static_cast<uint32_t>(e->ggml_type) == type;
  });
  return found == table.end() ? Encoding() : *found;
}

Encoding F32() {
  static const Encoding encoding = MustHave("F32");
  return encoding;
}

Encoding F16() {
  static const Encoding encoding = MustHave("F16");
  return encoding;
}

Encoding BF16() {
  static const Encoding encoding = MustHave("BF16");
  return encoding;
}

Encoding FloatByDtypeName(std::string_view name) {
  if (name.starts_with("torch.")) name.remove_prefix(6);
  if (name == "bfloat16" || name == "bf16") return BF16();
  if (name == "float16" || name == "f16") return F16();
  if (name == "float32" || name == "f32") return F32();
  return Encoding();
}

std::string_view DtypeName(Encoding plain_float) {
  if (plain_float == BF16()) return "bfloat16";
  if (plain_float == F16()) return "float16";
  SLUICE_CHECK(plain_float == F32());
  return "float32";
}

}  // namespace sluice::quant
