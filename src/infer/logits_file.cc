#include "infer/logits_file.h"

#include <fcntl.h>

#include <algorithm>

#include <fmt/format.h>

#include "base/units.h"
#include "formats/safetensors.h"
#include "io/write_calls.h"
#include "kernels/layer_ops.h"
#include "kernels/logit_panels.h"

namespace sluice::infer {

using kernels::kTileTokens;

std::vector<uint64_t> LogitsFile::WantedTiles(const TokenBatch& batch, bool last_only) {
  std::vector<uint64_t> tiles;
  for (uint64_t tile = 0; tile < batch.num_tiles(); ++tile) {
    const bool last = tile + 1 == batch.num_tiles() || batch.tile(tile + 1).index == 0;
    if (last || !last_only) tiles.push_back(tile);
  }
  return tiles;
}

Result<void> LogitsFile::CheckLengths(const TokenBatch& batch, bool last_only) {
  const uint64_t length = batch.sequences()[0].size();
  for (const auto& sequence : batch.sequences()) {
    if (last_only || sequence.size() == length) continue;
    return Fail(
        ErrorCode::kUsage,
        fmt::format("the sequences have {} and {} tokens, and a tensor of logits needs one length: give one text at "
                    "a time, or --last for the last token of each",
                    length, sequence.size()));
  }
  return {};
}

Result<std::unique_ptr<LogitsFile>> LogitsFile::Create(const std::string& path, bool force, const TokenBatch& batch,
                                                       uint64_t vocab, bool last_only) {
  SLUICE_TRY(CheckLengths(batch, last_only));
  const uint64_t num_sequences = batch.sequences().size(), length = batch.sequences()[0].size();
  const uint64_t shape[] = {num_sequences, last_only ? 1 : length, vocab};
  const formats::SafetensorsOutput tensor{"logits", quant::F32(), shape,
                                          shape[0] * shape[1] * shape[2] * sizeof(float)};
  SLUICE_ASSIGN(const std::string header, formats::WriteSafetensorsHeader({&tensor, 1}, {}, 4 * kKiB));
  SLUICE_ASSIGN(io::AtomicFile file, io::AtomicFile::Create(path, force));
  SLUICE_TRY(io::CheckFreeSpace(file.folder(), header.size() + tensor.size_bytes));
  std::unique_ptr<LogitsFile> logits(new LogitsFile(batch, vocab, last_only, std::move(file)));
  const std::string& partial = logits->file_.partial_path();
  SLUICE_ASSIGN(logits->fd_, io::OpenToWrite(partial, O_WRONLY));
  logits->data_begin_ = header.size();
  SLUICE_TRY(
      io::WriteAll(logits->fd_.get(), partial, {reinterpret_cast<const uint8_t*>(header.data()), header.size()}, 0));
  SLUICE_TRY(io::Truncate(logits->fd_.get(), partial, header.size() + tensor.size_bytes));
  return logits;
}

void LogitsFile::Take(const Panel& panel) {
  const TokenBatch::Tile& tile = batch_.tile(panel.tile);
  const uint64_t rows = panel.models[0].rows;
  std::vector<float> transposed(kTileTokens * rows);
  float* lanes[kTileTokens] = {};
  const uint64_t first_lane = last_only_ ? tile.num_tokens - 1 : 0;
  for (uint64_t lane = first_lane; lane < tile.num_tokens; ++lane) lanes[lane] = transposed.data() + lane * rows;
  kernels::TileToRows(panel.models[0].values, rows, lanes);
  const uint64_t per_sequence = last_only_ ? 1 : batch_.sequences()[tile.sequence].size();
  for (uint64_t lane = first_lane; lane < tile.num_tokens; ++lane) {
    const uint64_t token = tile.sequence * per_sequence + (last_only_ ? 0 : tile.index * kTileTokens + lane);
    auto written = io::WriteAll(fd_.get(), file_.partial_path(),
                                {reinterpret_cast<const uint8_t*>(lanes[lane]), rows * sizeof(float)},
                                data_begin_ + (token * vocab_ + panel.first_id) * sizeof(float));
    if (written) continue;
    const std::lock_guard lock(mutex_);
    if (failed_) failed_ = std::move(written);
    return;
  }
}

Result<void> LogitsFile::Checkpoint() {
  const std::lock_guard lock(mutex_);
  return failed_;
}

Result<void> LogitsFile::Commit() {
  SLUICE_TRY(Checkpoint());
  SLUICE_TRY(io::SyncFile(fd_.get(), file_.partial_path()));
  return file_.Commit();
}

}  // namespace sluice::infer
