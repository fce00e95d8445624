#include "checkpoint/model_ref.h"

#include <algorithm>
#include <array>
#include <filesystem>

#include <fmt/format.h>

#include "checkpoint/folder.h"
#include "checkpoint/hub_cache.h"
#include "checkpoint/lora_checkpoint.h"
#include "formats/recognise.h"
#include "formats/torch_file.h"

namespace sluice::checkpoint {
namespace {

namespace fs = std::filesystem;

bool EndsIn(std::string_view name, std::initializer_list<std::string_view> endings) {
  return std::any_of(endings.begin(), endings.end(), [&](std::string_view ending) { return name.ends_with(ending); });
}

// A file whose name says nothing, a blob of a hub cache say, is opened by its first bytes.
Result<std::shared_ptr<const Checkpoint>> OpenNamelessFile(const std::string& path, const OpenOptions& options) {
  SLUICE_ASSIGN(const auto source, options.open_source(path));
  std::string first(std::min<uint64_t>(source->size_bytes(), 4096), '\0');
  SLUICE_TRY(source->Read(0, {reinterpret_cast<uint8_t*>(first.data()), first.size()}));
  const formats::Recognised kind = formats::Recognise(first);
  if (kind.kind == formats::FileKind::kGguf) return OpenGguf(path, options);
  if (formats::LooksLikeTorch(first)) return OpenTorchFile(path, options);
  if (kind.kind == formats::FileKind::kText) {
    return FailIn(
        ErrorCode::kUnsupported, path,
        "a text file, not a model: name a folder, a .safetensors, .bin or .gguf file, or a recipe that ends in .yml");
  }
  return OpenSafetensorsFile(path, options);
}

Result<std::shared_ptr<const Checkpoint>> OpenFileByName(const std::string& path, const OpenOptions& options) {
  const std::string name = fs::path(path).filename().string();
  if (EndsIn(name, {".safetensors"})) return OpenSafetensorsFile(path, options);
  if (EndsIn(name, {".gguf"})) return OpenGguf(path, options);
  if (EndsIn(name, {".bin", ".pt", ".pth", ".ckpt"})) return OpenTorchFile(path, options);
  if (EndsIn(name, {".safetensors.index.json", ".bin.index.json"})) return OpenIndex(path, options);
  if (EndsIn(name, {".yml", ".yaml"})) return FailIn(ErrorCode::kUnsupported, path, "a recipe cannot be used here");
  if (EndsIn(name, {".json"})) {
    return FailIn(ErrorCode::kUnsupported, path,
                  "not an index of files of weights and no weights itself: name the folder that it is in");
  }
  return OpenNamelessFile(path, options);
}

// org/name, where `ref` is not more likely the path of a file.
std::optional<HubName> HubNameOf(const std::string& ref) {
  if (EndsIn(ref, {".yml", ".yaml", ".safetensors", ".bin", ".pt", ".pth", ".gguf", ".json"})) return std::nullopt;
  return ParseHubName(ref);
}

constexpr char kNoSuchPath[] = "there is no such file or folder: check the path";

Result<std::shared_ptr<const Checkpoint>> OpenWithLora(const std::string& ref, const LoraReference& parts,
                                                       const OpenOptions& options) {
  std::string folder = parts.adapter;
  std::error_code ignored;
  if (!fs::exists(folder, ignored)) {
    const auto hub = ParseHubName(parts.adapter);
    if (!hub) {
      return FailIn(ErrorCode::kNotFound, ref,
                    fmt::format("there is no such path, and no folder {} that could be applied to {} as an adapter "
                                "(MODEL+ADAPTER): check both",
                                parts.adapter, parts.base));
    }
    SLUICE_ASSIGN(folder, FindSnapshot(*hub, parts.adapter));
  }
  SLUICE_ASSIGN(auto base, OpenCheckpoint(parts.base, options));
  if (options.adapted_dtype.valid()) {
    SLUICE_ASSIGN(base, CastTo(std::move(base), options.adapted_dtype));
  }
  return ApplyLora(ref, std::move(base), folder, options);
}

}  // namespace

Result<std::string> LocalPathOf(const std::string& ref) {
  std::error_code ignored;
  // A link that leads nowhere has a name too.
  if (fs::exists(fs::symlink_status(ref, ignored))) {
    if (!EndsIn(ref, {".yml", ".yaml"}) || fs::is_directory(ref, ignored)) return ref;
    return FailIn(ErrorCode::kUsage, ref, "a recipe has no files of weights of its own: name one of its models");
  }
  if (ref.find('#') != std::string::npos || ref.find('+') != std::string::npos) {
    return FailIn(ErrorCode::kUsage, ref, "what is computed has no files of its own: name one of its models");
  }
  if (const auto hub = HubNameOf(ref)) return FindSnapshot(*hub, ref);
  return FailIn(ErrorCode::kNotFound, ref, kNoSuchPath);
}

Result<std::shared_ptr<const Checkpoint>> OpenCheckpoint(const std::string& ref, const OpenOptions& options) {
  if (ref.empty()) return Fail(ErrorCode::kNotFound, "an empty reference: name a folder, a file, a recipe or org/name");
  for (const Opener& opener : options.openers) {
    if (auto opened = opener(ref, options)) return std::move(*opened);
  }
  std::error_code error;
  const fs::file_status status = fs::status(ref, error);
  if (fs::is_directory(status)) return OpenFolder(ref, options);
  if (fs::exists(status)) return OpenFileByName(ref, options);
  if (error && error != std::errc::no_such_file_or_directory && error != std::errc::not_a_directory) {
    return FailIn(ErrorCode::kRead, ref, error.message());
  }

  constexpr std::array<std::string_view, 5> kRemote = {"hf://", "s3://", "gs://", "https://", "http://"};
  for (const std::string_view scheme : kRemote) {
    if (!ref.starts_with(scheme)) continue;
    const auto hub = ParseHubName(std::string_view(ref).substr(scheme.size()));
    const std::string hint = scheme == "hf://" && hub ? fmt::format(" with `{}`", DownloadCommand(*hub)) : "";
    return FailIn(ErrorCode::kUnsupported, ref,
                  fmt::format("{} is not supported yet: download the model{} and name it by its path", scheme, hint));
  }
  if (const auto parts = SplitLoraReference(ref)) return OpenWithLora(ref, *parts, options);
  if (const auto hub = HubNameOf(ref)) {
    SLUICE_ASSIGN(const std::string snapshot, FindSnapshot(*hub, ref));
    return OpenFolderAs(ref, snapshot, options);
  }
  return FailIn(ErrorCode::kNotFound, ref, kNoSuchPath);
}

}  // namespace sluice::checkpoint
