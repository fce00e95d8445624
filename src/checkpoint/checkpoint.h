// Checkpoint: an immutable catalogue of tensors, with config and side files, opened from headers alone; behind each
// tensor stands a node. A folder, a GGUF, a cast of another checkpoint, a recipe: whoever consumes one cannot tell.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "base/result.h"
#include "checkpoint/catalogue.h"
#include "checkpoint/model_config.h"
#include "graph/graph.h"
#include "io/byte_source.h"

namespace sluice::checkpoint {

struct Problem {
  enum class Severity { kNote, kWarning, kError };
  Severity severity;
  std::string file, tensor, message;
};

// A file that goes along with the weights: tokenizer.json, generation_config.json, ... Small.
struct SideFile {
  std::string name;        // no folders
  std::string path;        // where its bytes are; held in memory only while they are used
  std::string bytes = {};  // where there is no such file yet (path is empty)

  Result<std::string> Read() const {
    if (path.empty()) return bytes;
    return io::ReadWholeFile(path);
  }
};

class Checkpoint {
 public:
  virtual ~Checkpoint() = default;

  const Catalogue& tensors() const { return tensors_; }
  // The node of tensor i in `graph`. Thread-safe. Cheap: no I/O.
  virtual const graph::Node* MakeNode(size_t i, graph::Graph* graph) const = 0;

  const std::string& ref() const { return ref_; }              // as the user wrote it
  const std::string& kind() const { return kind_; }            // "safetensors", "pytorch", "gguf", "recipe"
  const ModelConfig* config() const { return config_.get(); }  // null: no config.json (architecture unknown)
  const std::vector<SideFile>& side_files() const { return side_files_; }  // sorted by name
  const std::vector<Problem>& problems() const { return problems_; }
  // Container files with their bytes, in order; a recipe lists its parents'.
  struct File {
    std::string name, path;
    uint64_t size_bytes;
  };
  const std::vector<File>& files() const { return files_; }
  // Paths of small files that say how the tensors are made: config.json of a folder, an adapter's adapter_config.json, a
  // recipe; a recipe lists its parents' too.
  const std::vector<std::string>& definitions() const { return definitions_; }
  // For tokenizer tables that live in the container (GGUF): canonical bytes hashed into model_root; empty where side
  // files hold them.
  const std::string& embedded_tokenizer() const { return embedded_tokenizer_; }

 protected:
  std::string ref_, kind_, embedded_tokenizer_;
  Catalogue tensors_;
  std::shared_ptr<const ModelConfig> config_;
  std::vector<SideFile> side_files_;
  std::vector<Problem> problems_;
  std::vector<File> files_;
  std::vector<std::string> definitions_;
};

// Every float tensor of `inner` in `encoding` (plain float), the others as they are. Config's torch_dtype follows.
Result<std::shared_ptr<const Checkpoint>> CastTo(std::shared_ptr<const Checkpoint> inner, quant::Encoding encoding);

}  // namespace sluice::checkpoint
