#include "verify/digest_manifest.h"

#include <algorithm>
#include <map>
#include <optional>
#include <tuple>

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include "base/check.h"
#include "base/units.h"
#include "formats/recognise.h"
#include "quant/encoding.h"

namespace sluice::verify {
namespace {

using checkpoint::ModelDigest;
using checkpoint::TensorDigest;
using formats::Printable;
using kernels::Hash256;
using nlohmann::json;

class Parser {
 public:
  explicit Parser(std::string file) : file_(std::move(file)) {}

  Result<ModelDigest> Parse(std::string_view text) {
    const json root = json::parse(text, nullptr, /*allow_exceptions=*/false);
    const json* schema = Field(root, "schema");
    if (schema == nullptr || *schema != "sluice/digest/v1") {
      return Fail(ErrorCode::kCorrupt, file_ + ": this is no manifest of `sluice digest REF -o manifest.json`");
    }
    ModelDigest digest{};
    SLUICE_TRY(ReadHash(root, "root", "", &digest.model_root));
    SLUICE_TRY(ReadHash(root, "weights_root", "", &digest.weights_root));
    SLUICE_TRY(ReadHash(root, "config_hash", "", &digest.config_hash));
    SLUICE_TRY(ReadHash(root, "tokenizer_hash", "", &digest.tokenizer_hash));
    const json* bytes = Field(root, "bytes");
    if (bytes == nullptr || !bytes->is_number_unsigned()) return Bad("bytes", "missing, or no size");
    digest.size_bytes = bytes->get<uint64_t>();
    const json* tied = Field(root, "tied");
    if (tied == nullptr || !tied->is_array()) return Bad("tied", "missing, or no list");
    for (const json& name : *tied) {
      if (!name.is_string()) return Bad("tied", "not a list of names");
      digest.tied.push_back(name.get<std::string>());
    }
    const json* tensors = Field(root, "tensors");
    if (tensors == nullptr || !tensors->is_array()) return Bad("tensors", "missing, or no list");
    for (const json& tensor : *tensors) SLUICE_TRY(ReadTensor(tensor, &digest));
    std::ranges::sort(digest.tensors, {}, &TensorDigest::name);
    const auto twice = std::ranges::adjacent_find(digest.tensors, {}, &TensorDigest::name);
    if (twice != digest.tensors.end()) return Bad("tensors", Printable(twice->name) + " is listed twice");
    return digest;
  }

 private:
  static const json* Field(const json& object, const char* key) {
    if (!object.is_object()) return nullptr;
    const auto found = object.find(key);
    return found == object.end() ? nullptr : &*found;
  }

  tl::unexpected<Error> Bad(const std::string& where, const std::string& why) const {
    return Fail(ErrorCode::kCorrupt, fmt::format("{}: {}: {}", file_, where, why));
  }

  Result<void> ReadHash(const json& object, const char* key, const std::string& where, Hash256* hash) const {
    const json* text = Field(object, key);
    if (text == nullptr || !text->is_string() || !kernels::FromHex(text->get_ref<const std::string&>(), hash)) {
      return Bad(where + key, "missing, or not 64 hexadecimal digits");
    }
    return {};
  }

  Result<void> ReadTensor(const json& entry, ModelDigest* digest) const {
    const json* name = Field(entry, "name");
    std::string where = fmt::format("tensors[{}]", digest->tensors.size());
    if (name == nullptr || !name->is_string()) return Bad(where, "has no name");
    TensorDigest tensor{};
    tensor.name = name->get<std::string>();
    where = Printable(tensor.name);
    const json* encoding = Field(entry, "encoding");
    if (encoding == nullptr || !encoding->is_string()) return Bad(where, "has no encoding");
    tensor.encoding = encoding->get<std::string>();
    const json* shape = Field(entry, "shape");
    if (shape == nullptr || !shape->is_array()) return Bad(where, "has no shape");
    uint64_t elements = 1;
    for (const json& dim : *shape) {
      if (!dim.is_number_unsigned()) return Bad(where, "has a shape that is none");
      tensor.shape.push_back(dim.get<uint64_t>());
      SLUICE_ASSIGN(elements, CheckedMultiply(elements, tensor.shape.back(), file_ + ": " + where));
    }
    SLUICE_TRY(ReadHash(entry, "digest", where + ": ", &tensor.root));
    const quant::Encoding known = quant::EncodingByName(tensor.encoding);
    if (!known.valid()) return Bad(where, "has the encoding '" + Printable(tensor.encoding) + "', which there is not");
    tensor.size_bytes = known.BytesOf(elements);
    digest->tensors.push_back(std::move(tensor));
    return {};
  }

  const std::string file_;
};

Hash256 WeightsRootOf(const ModelDigest& digest) {
  std::vector<Hash256> leaves;
  for (const TensorDigest& tensor : digest.tensors) {
    if (std::ranges::find(digest.tied, tensor.name) == digest.tied.end()) {
      leaves.push_back(checkpoint::TensorLeaf(tensor));
    }
  }
  return kernels::MerkleRoot(leaves);
}

Hash256 ModelRootOf(const ModelDigest& digest, const Hash256& weights_root) {
  kernels::Sha256 hash;
  hash.Update(weights_root);
  hash.Update(digest.config_hash);
  hash.Update(digest.tokenizer_hash);
  return hash.Finish();
}

// Each root follows from what stands below it; what does not was changed, and two that contradict each other while a
// third agrees with one of them tell which.
Result<void> CheckRoots(const ModelDigest& digest, const std::string& file) {
  const Hash256 weights_root = WeightsRootOf(digest);
  const bool weights_follow = weights_root == digest.weights_root;
  const bool root_follows = ModelRootOf(digest, digest.weights_root) == digest.model_root;
  std::string changed;
  if (weights_follow && !root_follows) {
    changed =
        "root, config_hash or tokenizer_hash: weights_root follows from tensors[], root does not follow from the "
        "three";
  } else if (!weights_follow && root_follows) {
    changed = "tensors[] or tied[]: weights_root does not follow from them, root does from it";
  } else if (!weights_follow && ModelRootOf(digest, weights_root) == digest.model_root) {
    changed = "weights_root: tensors[] and root agree with each other, and not with it";
  } else if (!weights_follow) {
    changed = "more than one part: neither does weights_root follow from tensors[], nor root from weights_root";
  }
  uint64_t bytes = 0;
  for (const TensorDigest& tensor : digest.tensors) {
    if (__builtin_add_overflow(bytes, tensor.size_bytes, &bytes)) bytes = UINT64_MAX;
  }
  if (changed.empty() && bytes != digest.size_bytes) {
    changed = fmt::format("bytes: {}, where the tensors have {}", digest.size_bytes, bytes);
  }
  if (changed.empty()) return {};
  return Fail(
      ErrorCode::kCorrupt,
      fmt::format("{}: the manifest contradicts itself, so it was changed after it was made: {}", file, changed));
}

// What can be told of a tensor that both have; nothing where they agree.
std::optional<ManifestDifference> Compare(const TensorDigest& tensor, const TensorDigest& stated) {
  ManifestDifference difference{.name = tensor.name};
  if (tensor.shape != stated.shape) {
    difference.change = ManifestChange::kShapeDiffers;
    difference.what = fmt::format("shape {}, {} in the manifest", checkpoint::ShapeText(tensor.shape),
                                  checkpoint::ShapeText(stated.shape));
  } else if (tensor.encoding != stated.encoding) {
    difference.change = ManifestChange::kEncodingDiffers;
    difference.what = fmt::format("{}, {} in the manifest", tensor.encoding, stated.encoding);
  } else if (tensor.root != stated.root) {
    difference.what = "its bytes differ";
  } else {
    return std::nullopt;
  }
  return difference;
}

}  // namespace

Result<ModelDigest> ParseDigestManifest(std::string_view text, const std::string& file) {
  SLUICE_ASSIGN(ModelDigest digest, Parser(file).Parse(text));
  SLUICE_TRY(CheckRoots(digest, file));
  return digest;
}

const char* ManifestChangeName(ManifestChange change) {
  switch (change) {
    case ManifestChange::kChanged:
      return "changed";
    case ManifestChange::kShapeDiffers:
      return "shape_differs";
    case ManifestChange::kEncodingDiffers:
      return "encoding_differs";
    case ManifestChange::kRenamed:
      return "renamed";
    case ManifestChange::kMissing:
      return "missing";
    case ManifestChange::kExtra:
      return "extra";
  }
  SLUICE_CHECK(false);
}

ManifestCheck CompareWithManifest(const ModelDigest& digest, const ModelDigest& stated, const std::string& manifest) {
  ManifestCheck check;
  check.manifest = manifest;
  check.stated_root = stated.model_root;
  check.same_root = digest.model_root == stated.model_root;
  check.same_weights = digest.weights_root == stated.weights_root;
  check.same_config = digest.config_hash == stated.config_hash;
  check.same_tokenizer = digest.tokenizer_hash == stated.tokenizer_hash;

  // Both sides are sorted by name.
  std::vector<const TensorDigest*> extra, missing;
  auto there = stated.tensors.begin();
  for (const TensorDigest& tensor : digest.tensors) {
    for (; there != stated.tensors.end() && there->name < tensor.name; ++there) missing.push_back(&*there);
    if (there == stated.tensors.end() || there->name != tensor.name) {
      extra.push_back(&tensor);
      continue;
    }
    if (auto difference = Compare(tensor, *there)) check.differences.push_back(std::move(*difference));
    ++there;
  }
  for (; there != stated.tensors.end(); ++there) missing.push_back(&*there);

  // Of several that are alike the first by name meets the first.
  const auto content = [](const TensorDigest* t) { return std::tuple(t->encoding, t->shape, t->root); };
  std::multimap<decltype(content(nullptr)), const TensorDigest*> lost;
  for (const TensorDigest* tensor : missing) lost.emplace(content(tensor), tensor);
  for (const TensorDigest* tensor : extra) {
    const auto found = lost.lower_bound(content(tensor));
    if (found == lost.end() || found->first != content(tensor)) {
      check.differences.push_back({tensor->name, ManifestChange::kExtra, "", "not in the manifest"});
      continue;
    }
    const std::string& old_name = found->second->name;
    check.differences.push_back({tensor->name, ManifestChange::kRenamed, old_name, old_name + " in the manifest"});
    lost.erase(found);
  }
  for (const auto& [key, tensor] : lost) {
    check.differences.push_back({tensor->name, ManifestChange::kMissing, "", "only in the manifest"});
  }
  std::ranges::sort(check.differences, {}, &ManifestDifference::name);
  return check;
}

}  // namespace sluice::verify
