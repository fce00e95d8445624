#include "verify/fingerprint.h"

#include <algorithm>
#include <bit>

#include <fmt/format.h>
#include <fmt/ranges.h>
#include <nlohmann/json.hpp>

#include "base/units.h"
#include "formats/json_document.h"
#include "generated/version.h"
#include "kernels/sha256.h"

namespace sluice::verify {
namespace {

using Json = nlohmann::ordered_json;
using kernels::Hash256;

constexpr char kSchema[] = "sluice/fingerprint-file/v1";
constexpr char kSchemaOfAnyVersion[] = "sluice/fingerprint-file/";
constexpr uint64_t kMostElements = uint64_t{1} << 58;
constexpr char kAbout[] =
    "Proves something only of models whose makers had not seen this file: whoever has it knows which blocks are looked "
    "at.";

void UpdateDouble(double value, kernels::Sha256* hash) { hash->UpdateU64(std::bit_cast<uint64_t>(value)); }

Hash256 HeaderDigest(const Fingerprint& fingerprint) {
  kernels::Sha256 hash;
  hash.UpdateLengthPrefixed(kSchema);
  hash.UpdateLengthPrefixed(fingerprint.made_by);
  hash.UpdateLengthPrefixed(fingerprint.model);
  hash.UpdateLengthPrefixed(NonceText(fingerprint.nonce));
  UpdateDouble(fingerprint.aim.detect, &hash);
  UpdateDouble(fingerprint.aim.confidence, &hash);
  hash.UpdateU64(kSampleBlockElements);
  hash.UpdateLengthPrefixed(fingerprint.architecture);
  hash.UpdateU64(fingerprint.has_config ? 1 : 0);
  hash.UpdateLengthPrefixed(fingerprint.canonical_config);
  hash.Update(fingerprint.tokenizer_hash);
  return hash.Finish();
}

Hash256 PrintsDigest(const checkpoint::TensorInfo& tensor, const std::vector<BlockPrint>& prints) {
  kernels::Sha256 hash;
  hash.UpdateLengthPrefixed(tensor.name);
  hash.UpdateLengthPrefixed(tensor.encoding.name());
  hash.UpdateU64(tensor.shape.size());
  for (const uint64_t dim : tensor.shape) hash.UpdateU64(dim);
  hash.UpdateU64(prints.size());
  for (const BlockPrint& print : prints) {
    hash.Update(print.stored);
    if (!print.has_numbers) continue;
    hash.Update(print.values);
    for (const double value : {print.moments.sum, print.moments.sum_squares, print.moments.least, print.moments.most}) {
      UpdateDouble(value, &hash);
    }
    hash.UpdateU64(print.moments.nan);
    hash.UpdateU64(print.moments.infinite);
  }
  return hash.Finish();
}

Hash256 FileDigest(const Hash256& header, const std::vector<Hash256>& tensors) {
  kernels::Sha256 hash;
  hash.Update(header);
  for (const Hash256& tensor : tensors) hash.Update(tensor);
  return hash.Finish();
}

std::string Dump(const Json& json) { return json.dump(-1, ' ', false, Json::error_handler_t::replace); }

std::vector<Stratum> StrataOf(const checkpoint::Catalogue& tensors) {
  std::vector<Stratum> strata;
  for (size_t i = 0; i < tensors.size(); ++i) strata.push_back({std::string(tensors[i].name), tensors[i].num_elements});
  return strata;
}

uint64_t ElementsOf(uint64_t block, uint64_t num_elements) {
  return std::min(kSampleBlockElements, num_elements - block * kSampleBlockElements);
}

// Draws the blocks, and makes room for their prints.
void Draw(Fingerprint* fingerprint) {
  fingerprint->sample = DrawBlocks(StrataOf(fingerprint->tensors), fingerprint->nonce, fingerprint->aim);
  fingerprint->prints.clear();
  for (const BlockSample::Drawn& drawn : fingerprint->sample.strata) {
    fingerprint->prints.emplace_back(drawn.blocks.size());
  }
}

// Of files: what is wrong, without the file's name.
tl::unexpected<Error> Bad(std::string what) { return Fail(ErrorCode::kCorrupt, std::move(what)); }

Result<const Json*> At(const Json& json, const char* key, const std::string& where) {
  if (!json.is_object()) return Bad(where + " is no object");
  const auto found = json.find(key);
  if (found == json.end()) return Bad(fmt::format("{} has no '{}'", where, key));
  return &*found;
}

Result<std::string> TextAt(const Json& json, const char* key, const std::string& where) {
  SLUICE_ASSIGN(const Json* value, At(json, key, where));
  if (!value->is_string()) return Bad(fmt::format("{}: '{}' is no text", where, key));
  return value->get<std::string>();
}

Result<Hash256> HashAt(const Json& json, const char* key, const std::string& where) {
  SLUICE_ASSIGN(const std::string text, TextAt(json, key, where));
  Hash256 hash;
  if (!kernels::FromHex(text, &hash)) {
    return Bad(fmt::format("{}: '{}' is not 64 hexadecimal digits", where, key));
  }
  return hash;
}

Result<double> NumberAt(const Json& json, const char* key, const std::string& where) {
  SLUICE_ASSIGN(const Json* value, At(json, key, where));
  if (!value->is_number()) return Bad(fmt::format("{}: '{}' is no number", where, key));
  return value->get<double>();
}

Result<const Json*> ListAt(const Json& json, const char* key, const std::string& where) {
  SLUICE_ASSIGN(const Json* value, At(json, key, where));
  if (!value->is_array()) return Bad(fmt::format("{}: '{}' is no list", where, key));
  return value;
}

Result<std::vector<Hash256>> HashesAt(const Json& json, const char* key, size_t count, const std::string& where) {
  SLUICE_ASSIGN(const std::string text, TextAt(json, key, where));
  std::vector<Hash256> hashes(count);
  bool good = text.size() == 64 * count;
  for (size_t i = 0; good && i < count; ++i) good = kernels::FromHex(text.substr(64 * i, 64), &hashes[i]);
  if (!good) return Bad(fmt::format("{}: '{}' is not {} hashes of 64 hexadecimal digits", where, key, count));
  return hashes;
}

Result<void> ReadHeader(const Json& json, Fingerprint* fingerprint) {
  const std::string where = "the file";
  SLUICE_ASSIGN(fingerprint->made_by, TextAt(json, "made_by", where));
  SLUICE_ASSIGN(fingerprint->model, TextAt(json, "model", where));
  SLUICE_ASSIGN(const std::string nonce, TextAt(json, "nonce", where));
  auto parsed = ParseNonce(nonce);
  if (!parsed) return Bad(parsed.error().message);
  fingerprint->nonce = std::move(*parsed);
  SLUICE_ASSIGN(fingerprint->aim.detect, NumberAt(json, "detectable_fraction", where));
  SLUICE_ASSIGN(fingerprint->aim.confidence, NumberAt(json, "confidence", where));
  if (!CheckAim(fingerprint->aim)) return Bad("detectable_fraction and confidence are no shares between 0 and 1");
  SLUICE_ASSIGN(const double block_elements, NumberAt(json, "block_elements", where));
  if (block_elements != static_cast<double>(kSampleBlockElements)) {
    return Bad(fmt::format("its blocks are not of {} elements", kSampleBlockElements));
  }
  SLUICE_ASSIGN(fingerprint->architecture, TextAt(json, "architecture", where));
  SLUICE_ASSIGN(const Json* config, At(json, "config", where));
  fingerprint->has_config = !config->is_null();
  if (fingerprint->has_config) {
    SLUICE_ASSIGN(fingerprint->canonical_config, TextAt(json, "config", where));
  }
  SLUICE_ASSIGN(fingerprint->tokenizer_hash, HashAt(json, "tokenizer_hash", where));
  return {};
}

Result<void> ReadTensorHeader(const Json& json, size_t index, Fingerprint* fingerprint) {
  const std::string where = fmt::format("tensors[{}]", index);
  SLUICE_ASSIGN(const std::string name, TextAt(json, "name", where));
  SLUICE_ASSIGN(const std::string encoding_name, TextAt(json, "encoding", where));
  SLUICE_ASSIGN(const Json* shape, ListAt(json, "shape", where));
  const quant::Encoding encoding = quant::EncodingByName(encoding_name);
  if (!encoding.valid()) return Bad(fmt::format("{}: '{}' is no encoding", where, encoding_name));
  std::vector<uint64_t> dims;
  uint64_t elements = 1;
  for (const Json& dim : *shape) {
    if (!dim.is_number_unsigned()) return Bad(fmt::format("{}: '{}' has no such shape", where, name));
    dims.push_back(dim.get<uint64_t>());
    SLUICE_ASSIGN(elements, CheckedMultiply(elements, dims.back(), name));
  }
  if (elements >= kMostElements || elements % encoding->block_elements != 0) {
    return Bad(fmt::format("{}: '{}' has no such shape", where, name));
  }
  if (index > 0 && fingerprint->tensors[index - 1].name >= name) {
    return Bad(fmt::format("{}: '{}' is not behind the name before it", where, name));
  }
  fingerprint->tensors.Add(name, encoding, dims, elements);
  return {};
}

Result<void> ReadPrints(const Json& json, size_t index, Fingerprint* fingerprint) {
  const checkpoint::TensorInfo tensor = fingerprint->tensors[index];
  const std::string where(tensor.name);
  const std::vector<uint64_t>& drawn = fingerprint->sample.strata[index].blocks;
  std::vector<BlockPrint>& prints = fingerprint->prints[index];
  const bool has_numbers = tensor.encoding->decode != nullptr;
  SLUICE_ASSIGN(const std::vector<Hash256> stored, HashesAt(json, "stored", prints.size(), where));
  std::vector<Hash256> values;
  const Json* sums = nullptr;
  if (has_numbers) {
    SLUICE_ASSIGN(values, HashesAt(json, "values", prints.size(), where));
    SLUICE_ASSIGN(sums, ListAt(json, "sums", where));
    if (sums->size() != prints.size()) return Bad(fmt::format("{}: 'sums' has not {} entries", where, prints.size()));
  }
  for (size_t i = 0; i < prints.size(); ++i) {
    BlockPrint& print = prints[i];
    print.elements = ElementsOf(drawn[i], tensor.num_elements);
    print.stored = stored[i];
    print.has_numbers = has_numbers;
    if (!has_numbers) continue;
    print.values = values[i];
    const Json& numbers = (*sums)[i];
    const bool good = numbers.is_array() && numbers.size() == 6 &&
                      std::all_of(numbers.begin(), numbers.end(), [](const Json& x) { return x.is_number(); }) &&
                      numbers[4].is_number_unsigned() && numbers[5].is_number_unsigned();
    if (!good) return Bad(fmt::format("{}: 'sums' has an entry that is not six numbers", where));
    BlockMoments& moments = print.moments;
    moments = {.nan = numbers[4].get<uint64_t>(),
               .infinite = numbers[5].get<uint64_t>(),
               .sum = numbers[0].get<double>(),
               .sum_squares = numbers[1].get<double>(),
               .least = numbers[2].get<double>(),
               .most = numbers[3].get<double>()};
    if (moments.nan > print.elements || moments.infinite > print.elements - moments.nan) {
      return Bad(fmt::format("{}: 'sums' counts more elements than a block has", where));
    }
    moments.finite = print.elements - moments.nan - moments.infinite;
  }
  return {};
}

Result<Fingerprint> Parse(const Json& json, uint64_t file_bytes) {
  SLUICE_ASSIGN(const std::string schema, TextAt(json, "schema", "the file"));
  if (schema != kSchema && schema.starts_with(kSchemaOfAnyVersion)) {
    return Fail(ErrorCode::kUnsupported, fmt::format("a newer sluice made it ('{}')", schema));
  }
  if (schema != kSchema) return Bad(fmt::format("'{}' is no fingerprint", schema));
  Fingerprint fingerprint;
  SLUICE_TRY(ReadHeader(json, &fingerprint));
  const Hash256 header = HeaderDigest(fingerprint);
  SLUICE_ASSIGN(const Hash256 stated_header, HashAt(json, "header_digest", "the file"));
  if (stated_header != header) {
    return Bad("was changed after it was made: its header (model, nonce, aim, config, tokenizer)");
  }
  SLUICE_ASSIGN(const Json* tensors, ListAt(json, "tensors", "the file"));
  uint64_t elements = 0, blocks = 0;
  for (size_t i = 0; i < tensors->size(); ++i) {
    SLUICE_TRY(ReadTensorHeader((*tensors)[i], i, &fingerprint));
    elements += fingerprint.tensors[i].num_elements;
    blocks += CountBlocks(fingerprint.tensors[i].num_elements);
    if (elements >= kMostElements) return Bad("its tensors have more elements than a model can");
  }
  fingerprint.tensors.Sort();  // nothing moves
  // A forged aim is not to make us draw more blocks than the file has hashes for.
  if (std::min(blocks, DrawsFor(fingerprint.aim)) > file_bytes / 64) return Bad("it has too few blocks for its aim");
  Draw(&fingerprint);

  std::vector<std::string> changed;
  std::vector<Hash256> digests;
  for (size_t i = 0; i < tensors->size(); ++i) {
    const std::string name(fingerprint.tensors[i].name);
    SLUICE_TRY(ReadPrints((*tensors)[i], i, &fingerprint));
    digests.push_back(PrintsDigest(fingerprint.tensors[i], fingerprint.prints[i]));
    SLUICE_ASSIGN(const Hash256 stated, HashAt((*tensors)[i], "digest", name));
    if (stated != digests.back()) changed.push_back("tensor " + name);
  }
  SLUICE_ASSIGN(const Hash256 stated, HashAt(json, "digest", "the file"));
  if (changed.empty() && stated != FileDigest(header, digests)) {
    changed.emplace_back("its list of tensors, or its digest");
  }
  if (changed.empty()) return fingerprint;
  constexpr size_t kMost = 8;
  const size_t more = changed.size() > kMost ? changed.size() - kMost : 0;
  changed.resize(changed.size() - more);
  return Bad(fmt::format("was changed after it was made: {}{}", fmt::join(changed, ", "),
                         more > 0 ? fmt::format(" and {} more", more) : ""));
}

}  // namespace

ModelHeaders Fingerprint::headers() const {
  ModelHeaders headers;
  headers.has_config = has_config;
  headers.architecture = architecture;
  headers.canonical_config = canonical_config;
  headers.config_hash = kernels::HashText(canonical_config);
  headers.tokenizer_hash = tokenizer_hash;
  headers.tensors = &tensors;
  return headers;
}

Result<Fingerprint> BeginFingerprint(const checkpoint::Checkpoint& checkpoint, const Nonce& nonce,
                                     const SampleAim& aim) {
  SLUICE_ASSIGN(ModelHeaders headers, HeadersOf(checkpoint));
  Fingerprint fingerprint;
  fingerprint.model = checkpoint.ref();
  fingerprint.made_by = fmt::format("sluice {}", kVersion);
  fingerprint.nonce = nonce;
  fingerprint.aim = aim;
  fingerprint.has_config = headers.has_config;
  fingerprint.architecture = std::move(headers.architecture);
  fingerprint.canonical_config = std::move(headers.canonical_config);
  fingerprint.tokenizer_hash = headers.tokenizer_hash;
  fingerprint.tensors = checkpoint.tensors();
  Draw(&fingerprint);
  return fingerprint;
}

std::string FingerprintFileText(const Fingerprint& fingerprint) {
  Json json;
  json["schema"] = kSchema;
  json["about"] = kAbout;
  json["made_by"] = fingerprint.made_by;
  json["model"] = fingerprint.model;
  json["nonce"] = NonceText(fingerprint.nonce);
  json["detectable_fraction"] = fingerprint.aim.detect;
  json["confidence"] = fingerprint.aim.confidence;
  json["block_elements"] = kSampleBlockElements;
  json["architecture"] = fingerprint.architecture;
  json["config"] = fingerprint.has_config ? Json(fingerprint.canonical_config) : Json(nullptr);
  json["tokenizer_hash"] = kernels::ToHex(fingerprint.tokenizer_hash);
  const Hash256 header = HeaderDigest(fingerprint);
  json["header_digest"] = kernels::ToHex(header);
  std::string text = "{\n";
  for (const auto& [key, value] : json.items()) text += fmt::format("  {}: {},\n", Dump(Json(key)), Dump(value));

  // One line a tensor: a file that was changed shows where.
  text += "  \"tensors\": [";
  std::vector<Hash256> digests;
  for (size_t i = 0; i < fingerprint.tensors.size(); ++i) {
    const checkpoint::TensorInfo tensor = fingerprint.tensors[i];
    Json entry;
    entry["name"] = tensor.name;
    entry["encoding"] = tensor.encoding.name();
    entry["shape"] = std::vector<uint64_t>(tensor.shape.begin(), tensor.shape.end());
    std::string stored, values;
    Json sums = Json::array();
    for (const BlockPrint& print : fingerprint.prints[i]) {
      stored += kernels::ToHex(print.stored);
      if (!print.has_numbers) continue;
      values += kernels::ToHex(print.values);
      const BlockMoments& moments = print.moments;
      sums.push_back({moments.sum, moments.sum_squares, moments.least, moments.most, moments.nan, moments.infinite});
    }
    entry["stored"] = std::move(stored);
    if (tensor.encoding->decode != nullptr) {
      entry["values"] = std::move(values);
      entry["sums"] = std::move(sums);
    }
    digests.push_back(PrintsDigest(tensor, fingerprint.prints[i]));
    entry["digest"] = kernels::ToHex(digests.back());
    text += (i == 0 ? "\n    " : ",\n    ") + Dump(entry);
  }
  text += fmt::format("\n  ],\n  \"digest\": \"{}\"\n}}\n", kernels::ToHex(FileDigest(header, digests)));
  return text;
}

Result<Fingerprint> ParseFingerprint(std::string_view text, const std::string& file) {
  SLUICE_ASSIGN(const Json json, formats::ParseJson(text, file));
  auto parsed = Parse(json, text.size());
  if (!parsed) return Fail(std::move(parsed.error()).In(file));
  return parsed;
}

}  // namespace sluice::verify
