#include "verify/evidence.h"

#include <algorithm>
#include <filesystem>
#include <set>

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "base/check.h"
#include "formats/json_document.h"
#include "formats/recognise.h"
#include "generated/version.h"
#include "io/byte_source.h"
#include "io/file_hasher.h"
#include "io/file_stamp.h"
#include "io/output_folder.h"

namespace sluice::verify {
namespace {

namespace fs = std::filesystem;
using Json = nlohmann::ordered_json;
using kernels::Hash256;

constexpr char kSchema[] = "sluice/evidence/v1";
constexpr char kSchemaOfAnyVersion[] = "sluice/evidence/";
constexpr char kAbout[] =
    "A verification and what it takes to do it again: `sluice verify --replay FOLDER`. The digests guard against "
    "accidents; sign the folder (`sluice sign`) to guard against whoever would write it anew.";
constexpr uint64_t kMaxFileBytes = uint64_t{1} << 30;

std::string Dump(const Json& json, int indent) { return json.dump(indent, ' ', false, Json::error_handler_t::replace); }
std::string FileText(const Json& json) { return Dump(json, 2) + "\n"; }

Json HashJson(const std::optional<Hash256>& hash) { return hash ? Json(kernels::ToHex(*hash)) : Json(nullptr); }

Json SideJson(const EvidenceSide& side) {
  Json json;
  json["side"] = side.name;
  json["ref"] = side.ref;
  json["kind"] = side.kind;
  json["seed"] = side.seed ? Json(*side.seed) : Json(nullptr);
  json["arithmetic"] = side.arithmetic ? Json(*side.arithmetic) : Json(nullptr);
  json["lora_merge_dtype"] = side.lora_merge_dtype.empty() ? Json(nullptr) : Json(side.lora_merge_dtype);
  json["root"] = HashJson(side.root);
  json["weights_root"] = HashJson(side.weights_root);
  json["config_hash"] = HashJson(side.config_hash);
  json["tokenizer_hash"] = HashJson(side.tokenizer_hash);
  json["headers_hash"] = HashJson(side.headers_hash);
  json["files"] = Json::array();
  for (const EvidenceInput& file : side.files) {
    json["files"].push_back({{"name", file.name}, {"bytes", file.size_bytes}, {"sha256", HashJson(file.digest)}});
  }
  return json;
}

// Of everything but "digest" itself.
std::string DigestOf(Json json) {
  json.erase("digest");
  return kernels::ToHex(kernels::HashText(Dump(json, -1)));
}

std::string SumsLine(const std::string& digest, const std::string& name) {
  return fmt::format("{}  {}\n", digest, name);
}

// As `sha256sum -c` reads it. `files`: "files" of evidence.json.
std::string SumsText(const Json& files, const std::string& evidence_text) {
  std::string text = SumsLine(kernels::ToHex(kernels::HashText(evidence_text)), kEvidenceFile);
  for (const Json& file : files) {
    text += SumsLine(file.at("sha256").get<std::string>(), file.at("name").get<std::string>());
  }
  return text;
}

// A file of the bundle as it should be.
struct Sealed {
  std::string name, digest;
};

tl::unexpected<Error> Bad(std::string what) { return Fail(ErrorCode::kCorrupt, std::move(what)); }

// Reading one object of evidence.json; `where` heads what is wrong.
class Fields {
 public:
  Fields(const Json& json, std::string where) : json_(json), where_(std::move(where)) {}

  Result<const Json*> At(const char* key) const {
    if (!json_.is_object()) return Bad(where_ + " is no object");
    const auto found = json_.find(key);
    if (found == json_.end()) return Bad(fmt::format("{} has no '{}'", where_, key));
    return &*found;
  }
  Result<std::string> Text(const char* key) const {
    SLUICE_ASSIGN(const Json* value, At(key));
    if (!value->is_string()) return Bad(fmt::format("{}: '{}' is no text", where_, key));
    return value->get<std::string>();
  }
  Result<std::optional<std::string>> TextOrNull(const char* key) const {
    SLUICE_ASSIGN(const Json* value, At(key));
    if (value->is_null()) return std::optional<std::string>();
    SLUICE_ASSIGN(std::string text, Text(key));
    return std::optional(std::move(text));
  }
  Result<uint64_t> Count(const char* key) const {
    SLUICE_ASSIGN(const Json* value, At(key));
    if (!value->is_number_unsigned()) return Bad(fmt::format("{}: '{}' is no count", where_, key));
    return value->get<uint64_t>();
  }
  Result<std::optional<Hash256>> HashOrNull(const char* key) const {
    SLUICE_ASSIGN(const auto text, TextOrNull(key));
    if (!text) return std::optional<Hash256>();
    Hash256 hash;
    if (!kernels::FromHex(*text, &hash)) {
      return Bad(fmt::format("{}: '{}' is not 64 hexadecimal digits", where_, key));
    }
    return std::optional(hash);
  }
  Result<const Json*> List(const char* key) const {
    SLUICE_ASSIGN(const Json* value, At(key));
    if (!value->is_array()) return Bad(fmt::format("{}: '{}' is no list", where_, key));
    return value;
  }

 private:
  const Json& json_;
  const std::string where_;
};

Result<EvidenceSide> ReadSide(const Json& json, const std::string& where) {
  const Fields fields(json, where);
  EvidenceSide side;
  SLUICE_ASSIGN(side.name, fields.Text("side"));
  SLUICE_ASSIGN(side.ref, fields.Text("ref"));
  SLUICE_ASSIGN(side.kind, fields.Text("kind"));
  SLUICE_ASSIGN(const Json* seed, fields.At("seed"));
  if (!seed->is_null()) {
    SLUICE_ASSIGN(side.seed, fields.Count("seed"));
  }
  SLUICE_ASSIGN(side.arithmetic, fields.TextOrNull("arithmetic"));
  SLUICE_ASSIGN(const auto dtype, fields.TextOrNull("lora_merge_dtype"));
  side.lora_merge_dtype = dtype.value_or("");
  SLUICE_ASSIGN(side.root, fields.HashOrNull("root"));
  SLUICE_ASSIGN(side.weights_root, fields.HashOrNull("weights_root"));
  SLUICE_ASSIGN(side.config_hash, fields.HashOrNull("config_hash"));
  SLUICE_ASSIGN(side.tokenizer_hash, fields.HashOrNull("tokenizer_hash"));
  SLUICE_ASSIGN(side.headers_hash, fields.HashOrNull("headers_hash"));
  SLUICE_ASSIGN(const Json* files, fields.List("files"));
  for (const Json& entry : *files) {
    const Fields file(entry, fmt::format("{}: files[{}]", where, side.files.size()));
    EvidenceInput input;
    SLUICE_ASSIGN(input.name, file.Text("name"));
    SLUICE_ASSIGN(input.size_bytes, file.Count("bytes"));
    SLUICE_ASSIGN(input.digest, file.HashOrNull("sha256"));
    side.files.push_back(std::move(input));
  }
  return side;
}

// No folders, and nothing that would be another's file.
bool IsBundleName(const std::string& name) {
  return !name.empty() && name.front() != '.' && name.find('/') == std::string::npos &&
         name.find('\n') == std::string::npos && name != kEvidenceFile && name != kSumsFile;
}

Result<std::vector<Sealed>> ReadSealed(const Json& json) {
  SLUICE_ASSIGN(const Json* files, Fields(json, kEvidenceFile).List("files"));
  std::vector<Sealed> sealed;
  for (const Json& entry : *files) {
    const Fields file(entry, fmt::format("{}: files[{}]", kEvidenceFile, sealed.size()));
    Sealed one;
    SLUICE_ASSIGN(one.name, file.Text("name"));
    SLUICE_ASSIGN(const auto digest, file.HashOrNull("sha256"));
    if (!digest || !IsBundleName(one.name)) return Bad(fmt::format("{}: files[{}]", kEvidenceFile, sealed.size()));
    one.digest = kernels::ToHex(*digest);
    sealed.push_back(std::move(one));
  }
  return sealed;
}

// What SHA256SUMS says, where evidence.json can no longer be believed. Lines that are none are left out.
std::vector<Sealed> SealedBySums(const std::string& text) {
  std::vector<Sealed> sealed;
  for (size_t at = 0; at < text.size();) {
    const size_t end = std::min(text.find('\n', at), text.size());
    const std::string line = text.substr(at, end - at);
    at = end + 1;
    Hash256 hash;
    if (line.size() < 67 || line.substr(64, 2) != "  " || !kernels::FromHex(line.substr(0, 64), &hash)) continue;
    if (IsBundleName(line.substr(66))) sealed.push_back({line.substr(66), line.substr(0, 64)});
  }
  return sealed;
}

// A folder's entries, held against what they should be.
class BundleReader {
 public:
  explicit BundleReader(std::string path) : path_(std::move(path)) {}

  Result<Evidence> Read() {
    SLUICE_TRY(List());
    if (!names_.contains(kEvidenceFile)) {
      return Bad(
          fmt::format("{}: evidence.json is missing: this is no evidence of `sluice verify --evidence`, or no "
                      "longer whole",
                      path_));
    }
    SLUICE_ASSIGN(const std::string text, ReadFile(kEvidenceFile));
    SLUICE_ASSIGN(const std::string sums, names_.contains(kSumsFile) ? ReadFile(kSumsFile) : std::string());
    const auto parsed = formats::ParseJson(text, kEvidenceFile);
    const bool is_sealed = parsed && parsed->is_object() && parsed->contains("digest") &&
                           parsed->at("digest") == DigestOf(*parsed) && FileText(*parsed) == text;
    if (!is_sealed) {
      problems_.push_back("evidence.json was changed");
      SLUICE_TRY(HoldAgainst(SealedBySums(sums)));
    } else {
      SLUICE_TRY(CheckVersion(*parsed));
      SLUICE_ASSIGN(const std::vector<Sealed> sealed, ReadSealed(*parsed));
      SLUICE_TRY(HoldAgainst(sealed));
      if (!sums.empty() && sums != SumsText(parsed->at("files"), text)) problems_.push_back("SHA256SUMS was changed");
    }
    if (!names_.contains(kSumsFile))
      problems_.push_back("SHA256SUMS is missing");
    else if (sums.empty())
      problems_.push_back("SHA256SUMS was changed");
    if (!problems_.empty()) {
      return Bad(fmt::format("{}: the evidence is not as it was written: {}", path_, fmt::join(problems_, ", ")));
    }
    return Parse(*parsed);
  }

 private:
  Result<void> List() {
    std::error_code error;
    if (!fs::exists(path_, error)) return FailIn(ErrorCode::kNotFound, path_, "no such folder of evidence");
    if (!fs::is_directory(path_, error)) {
      return FailIn(ErrorCode::kCorrupt, path_, "is no folder of `sluice verify --evidence`");
    }
    fs::directory_iterator entries(path_, error);
    if (error) return FailIn(ErrorCode::kRead, path_, error.message());
    for (; entries != fs::directory_iterator(); entries.increment(error)) {
      if (error) return FailIn(ErrorCode::kRead, path_, error.message());
      const std::string name = entries->path().filename().string();
      if (entries->is_regular_file(error) && !entries->is_symlink(error)) {
        names_.insert(name);
      } else {
        problems_.push_back(formats::Printable(name) + " does not belong to it");
      }
    }
    return {};
  }

  Result<std::string> ReadFile(const std::string& name) {
    return io::ReadWholeFile((fs::path(path_) / name).string(), kMaxFileBytes);
  }

  Result<void> CheckVersion(const Json& json) {
    SLUICE_ASSIGN(const std::string schema, Fields(json, kEvidenceFile).Text("schema"));
    if (schema == kSchema) return {};
    if (schema.starts_with(kSchemaOfAnyVersion)) {
      return FailIn(ErrorCode::kUnsupported, path_,
                    fmt::format("a newer sluice made this evidence ('{}')", formats::Printable(schema)));
    }
    return FailIn(ErrorCode::kCorrupt, path_, fmt::format("'{}' is no evidence", formats::Printable(schema)));
  }

  Result<void> HoldAgainst(const std::vector<Sealed>& sealed) {
    std::set<std::string> belong = {kEvidenceFile, kSumsFile};
    for (const Sealed& file : sealed) {
      belong.insert(file.name);
      if (!names_.contains(file.name)) {
        problems_.push_back(formats::Printable(file.name) + " is missing");
        continue;
      }
      SLUICE_ASSIGN(std::string bytes, ReadFile(file.name));
      if (kernels::ToHex(kernels::HashText(bytes)) != file.digest) {
        problems_.push_back(formats::Printable(file.name) + " was changed");
      }
      bytes_[file.name] = std::move(bytes);
    }
    for (const std::string& name : names_) {
      if (!belong.contains(name)) problems_.push_back(formats::Printable(name) + " does not belong to it");
    }
    return {};
  }

  Result<Evidence> Parse(const Json& json) {
    const Fields fields(json, kEvidenceFile);
    Evidence evidence;
    SLUICE_ASSIGN(evidence.made_by, fields.Text("made_by"));
    SLUICE_ASSIGN(evidence.form, fields.Text("form"));
    SLUICE_ASSIGN(const Json* options, fields.At("options"));
    SLUICE_ASSIGN(const Json* plan, fields.At("plan"));
    evidence.options = *options;
    evidence.plan = *plan;
    SLUICE_ASSIGN(const Json* sides, fields.List("sides"));
    for (const Json& side : *sides) {
      const std::string where = fmt::format("{}: sides[{}]", kEvidenceFile, evidence.sides.size());
      SLUICE_ASSIGN(EvidenceSide read, ReadSide(side, where));
      evidence.sides.push_back(std::move(read));
    }
    const auto result = bytes_.find(kResultFile);
    if (result == bytes_.end()) return Bad(fmt::format("{}: result.json is missing", path_));
    evidence.result = std::move(result->second);
    bytes_.erase(result);
    evidence.papers = std::move(bytes_);
    return evidence;
  }

  const std::string path_;
  std::set<std::string> names_;
  std::map<std::string, std::string> bytes_;
  std::vector<std::string> problems_;
};

}  // namespace

Hash256 HeadersHash(const checkpoint::Catalogue& tensors) {
  kernels::Sha256 hash;
  for (size_t i = 0; i < tensors.size(); ++i) {
    const checkpoint::TensorInfo tensor = tensors[i];
    hash.UpdateLengthPrefixed(tensor.name);
    hash.UpdateLengthPrefixed(tensor.encoding.name());
    hash.UpdateU64(tensor.shape.size());
    for (const uint64_t dim : tensor.shape) hash.UpdateU64(dim);
  }
  return hash.Finish();
}

EvidenceSide DescribeHeaders(const std::string& name, const std::string& ref, const ModelHeaders& headers) {
  EvidenceSide side{.name = name, .ref = ref, .kind = "fingerprint"};
  side.config_hash = headers.config_hash;
  side.tokenizer_hash = headers.tokenizer_hash;
  side.headers_hash = HeadersHash(*headers.tensors);
  return side;
}

Result<EvidenceSide> DescribeSide(const std::string& name, const checkpoint::Checkpoint& checkpoint,
                                  MemoryBudget* budget) {
  SLUICE_ASSIGN(const ModelHeaders headers, HeadersOf(checkpoint));
  EvidenceSide side = DescribeHeaders(name, checkpoint.ref(), headers);
  side.kind = checkpoint.kind();
  std::set<std::string> seen;
  for (const checkpoint::Checkpoint::File& file : checkpoint.files()) {
    if (seen.insert(file.path).second) side.files.push_back({file.name, file.size_bytes});
  }
  std::vector<io::FilePiece> pieces;
  std::vector<size_t> places;
  const auto add = [&](const std::string& file_name, const std::string& path) -> Result<void> {
    if (path.empty() || !seen.insert(path).second) return {};
    SLUICE_ASSIGN(const io::FileStamp stamp, io::StampOf(path));
    places.push_back(side.files.size());
    side.files.push_back({file_name, stamp.size_bytes});
    pieces.push_back({path, 0, stamp.size_bytes});
    return {};
  };
  for (const checkpoint::SideFile& file : checkpoint.side_files()) SLUICE_TRY(add(file.name, file.path));
  for (const std::string& path : checkpoint.definitions()) {
    SLUICE_TRY(add(fs::path(path).filename().string(), path));
  }
  SLUICE_ASSIGN(const auto hashes, io::HashFiles(pieces, {.num_threads = 1, .budget = budget}));
  for (size_t i = 0; i < places.size(); ++i) side.files[places[i]].digest = hashes[i].digest;
  return side;
}

std::map<std::string, std::string> EvidenceFiles(Evidence evidence) {
  std::map<std::string, std::string> files = std::move(evidence.papers);
  files[kResultFile] = std::move(evidence.result);
  Json json;
  json["schema"] = kSchema;
  json["about"] = kAbout;
  json["made_by"] = fmt::format("sluice {}", kVersion);
  json["form"] = evidence.form;
  json["options"] = evidence.options;
  json["plan"] = evidence.plan;
  json["sides"] = Json::array();
  for (const EvidenceSide& side : evidence.sides) json["sides"].push_back(SideJson(side));
  json["files"] = Json::array();
  for (const auto& [name, bytes] : files) {
    SLUICE_CHECK(IsBundleName(name));
    json["files"].push_back(
        {{"name", name}, {"bytes", bytes.size()}, {"sha256", kernels::ToHex(kernels::HashText(bytes))}});
  }
  // As it will be read: a name that is not UTF-8 is not to make a digest of what is not there.
  json = Json::parse(Dump(json, -1));
  json["digest"] = DigestOf(json);
  const std::string text = FileText(json);
  files[kSumsFile] = SumsText(json["files"], text);
  files[kEvidenceFile] = text;
  return files;
}

Result<void> WriteEvidence(const std::string& path, Evidence evidence, bool force, const std::atomic<bool>& cancelled) {
  SLUICE_ASSIGN(io::OutputFolder folder, io::OutputFolder::Create(path, force));
  for (const auto& [name, bytes] : EvidenceFiles(std::move(evidence))) {
    if (cancelled) return Fail(ErrorCode::kCancelled, fmt::format("interrupted; there is no {}", path));
    SLUICE_TRY(folder.WriteFile(name, bytes));
  }
  if (cancelled) return Fail(ErrorCode::kCancelled, fmt::format("interrupted; there is no {}", path));
  return folder.Commit();
}

Result<Evidence> ReadEvidence(const std::string& path) { return BundleReader(path).Read(); }

}  // namespace sluice::verify
