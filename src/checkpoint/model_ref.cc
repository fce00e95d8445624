#include "checkpoint/model_ref.h"

#include <algorithm>
#include <array>
#include <cstdlib>
#include <filesystem>

#include <fmt/format.h>

#include "checkpoint/folder.h"
#include "checkpoint/lora_checkpoint.h"
#include "formats/recognise.h"
#include "formats/torch_file.h"

namespace sluice::checkpoint {
namespace {

namespace fs = std::filesystem;

tl::unexpected<Error> FailIn(ErrorCode code, const std::string& ref, std::string message) {
  return Fail(Error{code, std::move(message), {ref}});
}

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

// org/name[@revision]
struct HubName {
  std::string org, name, revision;
};

std::optional<HubName> ParseHubName(const std::string& ref) {
  HubName hub;
  std::string path = ref;
  if (const size_t at = ref.find('@'); at != std::string::npos) {
    path = ref.substr(0, at);
    hub.revision = ref.substr(at + 1);
    if (hub.revision.empty() || hub.revision.find("..") != std::string::npos || hub.revision.front() == '/') {
      return std::nullopt;
    }
  }
  const size_t slash = path.find('/');
  if (slash == std::string::npos) return std::nullopt;
  hub.org = path.substr(0, slash);
  hub.name = path.substr(slash + 1);
  const auto is_name = [](std::string_view part) {
    constexpr std::string_view kAllowed = "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ-_.";
    return !part.empty() && part.find_first_not_of(kAllowed) == std::string_view::npos && part.front() != '.' &&
           part.front() != '-' && part.find("..") == std::string_view::npos;
  };
  return is_name(hub.org) && is_name(hub.name) ? std::optional(hub) : std::nullopt;
}

std::string DownloadCommand(const HubName& hub) {
  const std::string revision = hub.revision.empty() ? "" : " --revision " + hub.revision;
  return fmt::format("hf download {}/{}{}", hub.org, hub.name, revision);
}

// Where huggingface_hub keeps what it downloads, by its own variables.
fs::path HubCache() {
  const auto variable = [](const char* name) -> std::string {
    const char* value = std::getenv(name);
    return value == nullptr ? "" : value;
  };
  if (const auto path = variable("HF_HUB_CACHE"); !path.empty()) return path;
  if (const auto path = variable("HF_HOME"); !path.empty()) return fs::path(path) / "hub";
  if (const auto path = variable("XDG_CACHE_HOME"); !path.empty()) return fs::path(path) / "huggingface" / "hub";
  return fs::path(variable("HOME")) / ".cache" / "huggingface" / "hub";
}

// The folder of a repository that the hub cache has.
Result<std::string> FindInHubCache(const std::string& ref, const HubName& hub) {
  const fs::path cache = HubCache();
  const fs::path repository = cache / fmt::format("models--{}--{}", hub.org, hub.name);
  const std::string revision = hub.revision.empty() ? "main" : hub.revision;
  std::error_code ignored;
  std::string commit = revision;
  if (const fs::path by_name = repository / "refs" / revision; fs::is_regular_file(by_name, ignored)) {
    SLUICE_ASSIGN(commit, io::ReadWholeFile(by_name.string(), 4096));
    while (!commit.empty() && (commit.back() == '\n' || commit.back() == ' ')) commit.pop_back();
  }
  if (const fs::path snapshot = repository / "snapshots" / commit;
      commit.find('/') == std::string::npos && !commit.empty() && fs::is_directory(snapshot, ignored)) {
    return snapshot.string();
  }
  return FailIn(ErrorCode::kNotFound, ref,
                fmt::format("there is no such path, and the hub cache in {} does not have it: fetch it with `{}`",
                            cache.string(), DownloadCommand(hub)));
}

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
    SLUICE_ASSIGN(folder, FindInHubCache(parts.adapter, *hub));
  }
  SLUICE_ASSIGN(auto base, OpenCheckpoint(parts.base, options));
  return ApplyLora(ref, std::move(base), folder, options);
}

}  // namespace

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
    const auto hub = ParseHubName(ref.substr(scheme.size()));
    const std::string hint = scheme == "hf://" && hub ? fmt::format(" with `{}`", DownloadCommand(*hub)) : "";
    return FailIn(ErrorCode::kUnsupported, ref,
                  fmt::format("{} is not supported yet: download the model{} and name it by its path", scheme, hint));
  }
  if (const auto parts = SplitLoraReference(ref)) return OpenWithLora(ref, *parts, options);
  if (const auto hub = ParseHubName(ref);
      hub && !EndsIn(ref, {".yml", ".yaml", ".safetensors", ".bin", ".pt", ".pth", ".gguf", ".json"})) {
    SLUICE_ASSIGN(const std::string folder, FindInHubCache(ref, *hub));
    return OpenFolderAs(ref, folder, options);
  }
  return FailIn(ErrorCode::kNotFound, ref, "there is no such file or folder: check the path");
}

}  // namespace sluice::checkpoint
