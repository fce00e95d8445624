// HashModel: the files of a model through io::HashFiles, as every command does it: plan, progress, what it took.
#pragma once

#include <optional>
#include <span>
#include <string>
#include <vector>

#include "base/result.h"
#include "cli/session.h"
#include "io/file_hasher.h"
#include "verify/file_manifest.h"

namespace sluice::cli {

// Nothing with --dry-run, which prints what would be read. kCorrupt where a file changed meanwhile.
Result<std::optional<std::vector<io::PieceHashes>>> HashModel(Session& session, const verify::ModelFiles& files,
                                                              std::span<const io::FilePiece> pieces,
                                                              const std::string& what);

}  // namespace sluice::cli
