#include "stream/engine.h"

#include <algorithm>
#include <chrono>
#include <utility>

#include <fmt/format.h>

#include "base/check.h"
#include "base/units.h"

namespace sluice::stream {
namespace {

constexpr auto kCancelPoll = std::chrono::milliseconds(50);
constexpr uint64_t kScratchAlignment = 64;

// The group of a job of many that a window was read for; where several share it, the first.
uint32_t FirstThatReads(const Job& job, const Window& window) {
  if (job.parts.front().run == job.parts.back().run) return job.parts.front().run->group;
  for (const JobPiece& part : job.parts) {
    WindowSet of_part(kUnboundedSlot);
    for (const Node* out : part.run->outs) of_part.AddRoot(out, part.range, false);
    for (const GroupRun::Own& own : part.run->own) {
      for (const Node* input : own.fact->inputs()) of_part.AddRoot(input, part.range, false);
    }
    of_part.Layout();
    const auto is_of_window = [&](const Window& w) {
      return w.id == window.id && w.begin < window.payload_end && window.begin < w.payload_end;
    };
    if (std::ranges::any_of(of_part.windows(), is_of_window)) return part.run->group;
  }
  return job.parts.front().run->group;
}

bool Cancelled(const StreamOptions& options) {
  return options.cancelled != nullptr && options.cancelled->load(std::memory_order_relaxed);
}

// The pieces of a strip, cut at multiples of kPieceElements.
template <class Each>
void ForEachPiece(Range range, Each each) {
  for (uint64_t begin = range.begin; begin < range.end;) {
    const uint64_t end = std::min((begin / graph::kPieceElements + 1) * graph::kPieceElements, range.end);
    each(Range{begin, end});
    begin = end;
  }
}

}  // namespace

Engine::Engine(const GroupSource& groups, const StreamOptions& options, Planned planned, std::unique_ptr<Arena> arena,
               std::unique_ptr<Arena> kept, std::unique_ptr<io::BlockReader> reader, std::vector<MemoryLease> leases)
    : groups_(groups),
      options_(options),
      plan_(std::move(planned.plan)),
      layout_(planned.layout),
      arena_(std::move(arena)),
      kept_(std::move(kept)),
      reader_(std::move(reader)),
      leases_(std::move(leases)),
      generator_(groups_, options_, layout_, this, &shared_) {
  for (const auto& [key, record] : options_.known_facts) {
    Shared::Fact& fact = shared_.facts[key];
    fact.record = record;
    if (!record.has_value()) continue;
    fact.run = std::make_shared<FactRun>();
    fact.run->key = key;
    fact.run->known = true;
    fact.run->value = record.numbers;
  }
  for (int worker = 0; worker < options_.num_threads; ++worker) {
    scratch_memory_.emplace_back(static_cast<uint8_t*>(std::aligned_alloc(kScratchAlignment, layout_.scratch_bytes)));
    SLUICE_CHECK(scratch_memory_.back() != nullptr);
    evaluators_.emplace_back(std::span<uint8_t>(scratch_memory_.back().get(), layout_.scratch_bytes));
  }
  workers_ = std::make_unique<ThreadPool>(options_.num_threads, [this](int worker) { WorkLoop(worker); });
  io_thread_ = std::thread([this] { IoLoop(); });
}

Engine::~Engine() {
  {
    std::lock_guard lock(mutex_);
    stop_ = true;
    io_wake_.notify_all();
    work_wake_.notify_all();
  }
  io_thread_.join();
  workers_.reset();
  tasks_.clear();
  deliver_.clear();
  active_.clear();
  for (auto& [key, fact] : shared_.facts) {  // groups and facts point at each other
    if (fact.run != nullptr) fact.run->waiting.clear();
  }
}

void Engine::Enqueue(std::span<const uint32_t> groups) {
  std::lock_guard lock(mutex_);
  for (const uint32_t group : groups) {
    SLUICE_CHECK(group < groups_.size());
    shared_.queue.push_back({group, next_batch_});
  }
  ++next_batch_;
  if (!groups.empty()) idle_ = false;
  WakeIo();
}

Result<Lease> Engine::Next() {
  std::unique_lock lock(mutex_);
  consumer_waits_ = true;
  for (;;) {
    if (Cancelled(options_)) Fail(0, {ErrorCode::kCancelled, "interrupted", {}});
    const bool failed_here = failure_ && next_place_ >= failure_->place;
    if (failed_here) {
      consumer_waits_ = false;
      return sluice::Fail(failure_->error);
    }
    if (HasNext()) {
      std::shared_ptr<Job> job = std::move(deliver_.front());
      deliver_.pop_front();
      ++next_place_;
      if (!job->held) ahead_slots_ -= job->windows.num_slots();
      for (const Piece& piece : job->pieces) {
        for (const Node* out : job->parts[static_cast<size_t>(&piece - job->pieces.data())].run->outs) {
          stats_.out_bytes += out->encoding().BytesOf(piece.range.size());
        }
      }
      consumer_waits_ = false;
      WakeIo();
      return Lease(std::move(job));
    }
    if (deliver_.empty() && idle_) {
      consumer_waits_ = false;
      return Lease();
    }
    if (io_sleeps_) WakeIo();  // it looks for a consumer that holds too much
    done_wake_.wait_for(lock, kCancelPoll);
  }
}

void Engine::Post(Lease lease, std::function<void(int worker)> task) {
  std::lock_guard lock(mutex_);
  tasks_.push_back({std::move(lease), std::move(task)});
  work_wake_.notify_one();
}

void Engine::WaitForPosted() {
  std::unique_lock lock(mutex_);
  done_wake_.wait(lock, [this] { return tasks_.empty() && tasks_running_ == 0; });
}

StreamStats Engine::stats() const {
  std::lock_guard lock(mutex_);
  StreamStats stats = stats_;
  stats.fact_passes = shared_.fact_passes;
  return stats;
}

graph::FactRecords Engine::facts() const {
  std::lock_guard lock(mutex_);
  graph::FactRecords facts;
  for (const auto& [key, fact] : shared_.facts) {
    if (fact.record) facts.emplace_back(key, *fact.record);
  }
  return facts;
}

void Engine::ReturnSlots(std::vector<uint8_t*>&& slots) {
  std::lock_guard lock(mutex_);
  for (uint8_t* slot : slots) arena_->Return(slot);
  WakeIo();
}

bool Engine::HasNext() const {
  return !deliver_.empty() && deliver_.front()->place == next_place_ && deliver_.front()->done;
}

void Engine::Fail(uint64_t place, Error error) {
  if (!failure_ || place < failure_->place) failure_ = Failure{place, std::move(error)};
  done_wake_.notify_all();
  WakeIo();
}

// ---------------------------------------------------------------------------------------------------------------------
// The I/O thread: generate, admit, submit, complete.

void Engine::IoLoop() {
  std::shared_ptr<Job> pending;
  std::vector<io::ReadRequest> requests;
  std::vector<io::ReadCompletion> completions;
  std::unique_lock lock(mutex_);
  const auto complete = [&](bool block) {
    if (reader_->in_flight() == 0) return;
    lock.unlock();
    completions.clear();
    reader_->Wait(block, &completions);
    lock.lock();
    for (io::ReadCompletion& completion : completions) CompleteRead(std::move(completion));
  };
  while (!stop_) {
    // Admit all that fits.
    bool admitted = false;
    io_news_ = false;
    while (!stop_ && !Cancelled(options_)) {
      if (pending != nullptr && failure_ && pending->place >= failure_->place) pending = nullptr;
      if (pending == nullptr) pending = Generate(lock);
      if (pending == nullptr) break;
      if (!CanAdmit(*pending)) break;
      requests.clear();
      Admit(std::move(pending), &requests);
      pending = nullptr;
      admitted = true;
      lock.unlock();
      for (const io::ReadRequest& request : requests) reader_->Submit(request);
      lock.lock();
      complete(false);
    }
    if (stop_) break;
    if (reader_->in_flight() > 0) {
      complete(true);
      continue;
    }
    if (admitted) continue;
    if (pending != nullptr && !Cancelled(options_) && Stuck()) {
      Fail(0, {ErrorCode::kBudget,
               "the consumer holds more tiles than it had announced, and nothing is left to read into: "
               "give more --max-memory",
               {}});
    }
    io_sleeps_ = true;
    io_wake_.wait_for(lock, kCancelPoll, [this] { return io_news_ || stop_; });
    io_sleeps_ = false;
  }
  lock.unlock();
  while (reader_->in_flight() > 0) {  // the kernel writes into the arena until then
    completions.clear();
    reader_->Wait(true, &completions);
  }
  reading_.clear();
}

// The next job, in its place among those to be handed out. After a failure, only what comes before it.
std::shared_ptr<Job> Engine::Generate(std::unique_lock<std::mutex>& lock) {
  const uint64_t before = failure_ ? failure_->place : kNoPlace;
  lock.unlock();  // building nodes and windows is the slow part
  std::shared_ptr<Job> job = generator_.Next(before);
  lock.lock();
  if (job == nullptr) {
    const bool nothing = generator_.exhausted() && shared_.queue.empty();
    if (nothing && !idle_) done_wake_.notify_all();
    idle_ = nothing;
    return nullptr;
  }
  if (job->windows.num_slots() > arena_->num_slots()) {
    Fail(job->fails_from,
         {ErrorCode::kBudget,
          fmt::format("{}: one tile needs {} of working memory, and the budget has {}: give more --max-memory",
                      groups_.name(job->parts[0].run->group),
                      FormatMemory(job->windows.num_slots() * arena_->slot_bytes()),
                      FormatMemory(arena_->num_slots() * arena_->slot_bytes())),
          {}});
    return nullptr;
  }
  if (job->emits) {
    const auto after = std::ranges::upper_bound(deliver_, job->place, {}, &Job::place);
    deliver_.insert(after, job);
  }
  idle_ = false;
  return job;
}

bool Engine::CanAdmit(const Job& job) const {
  const uint64_t slots = job.windows.num_slots();
  if (slots > arena_->num_free()) return false;
  return job.held || ahead_slots_ == 0 || ahead_slots_ + slots <= layout_.ahead_slots;
}

// Nothing runs or could, nothing is being read, nothing is finished for a consumer that waits: no slot will ever come
// free.
bool Engine::Stuck() const {
  const bool idle = tasks_.empty() && tasks_running_ == 0 && strips_running_ == 0 &&
                    std::none_of(active_.begin(), active_.end(), [this](const auto& job) { return HasStrip(*job); });
  return consumer_waits_ && idle && !HasNext();
}

void Engine::Admit(std::shared_ptr<Job> job, std::vector<io::ReadRequest>* requests) {
  job->slots.reserve(job->windows.num_slots());
  for (uint64_t i = 0; i < job->windows.num_slots(); ++i) job->slots.push_back(arena_->Take());
  job->windows.Place(job->slots);
  if (!job->held) ahead_slots_ += job->windows.num_slots();
  for (uint32_t index = 0; index < job->parts.size(); ++index) {
    const JobPiece& part = job->parts[index];
    if (part.fold) AppendFoldStrips(part, index, &job->fold_strips);
    if (part.emit) AppendEmitStrips(part, index, &job->emit_strips);
    if (part.emit && !part.run->resolved) ++job->unresolved_parts;
  }
  stats_.payload_bytes += job->windows.payload_bytes();
  stats_.moved_bytes += job->windows.moved_bytes();

  active_.push_back(job);
  job->reads_left = job->windows.windows().size();
  if (job->reads_left == 0) {
    job->loaded = true;
    Advance(job);
    work_wake_.notify_all();
    return;
  }
  for (const Window& window : job->windows.windows()) {
    uint32_t tag = static_cast<uint32_t>(reading_.size());
    if (free_tags_.empty()) {
      reading_.push_back({job, &window});
    } else {
      tag = free_tags_.back();
      free_tags_.pop_back();
      reading_[tag] = {job, &window};
    }
    requests->push_back(
        {window.source, window.begin, window.end - window.begin, window.payload_end - window.begin, window.data, tag});
  }
}

void Engine::CompleteRead(io::ReadCompletion completion) {
  const auto [job, window] = std::exchange(reading_[completion.tag], {});
  free_tags_.push_back(static_cast<uint32_t>(completion.tag));
  if (!completion.result) {
    Fail(job->fails_from, std::move(completion.result.error()).In(groups_.name(FirstThatReads(*job, *window))));
  }
  if (--job->reads_left > 0) return;
  if (failure_ && failure_->place <= job->fails_from) return Drop(job);
  job->loaded = true;
  Advance(job);
  work_wake_.notify_all();
}

// A job that failed, or comes after a failure, and was not yet begun: nobody will have it, and what comes before the
// failure may want for its slots.
void Engine::Drop(const std::shared_ptr<Job>& job) {
  active_.remove(job);
  for (uint8_t* slot : job->slots) arena_->Return(slot);
  job->slots.clear();
  if (!job->held) ahead_slots_ -= job->windows.num_slots();
  WakeIo();
}

void Engine::WakeIo() {
  io_news_ = true;
  io_wake_.notify_one();
}

// ---------------------------------------------------------------------------------------------------------------------
// Workers.

void Engine::WorkLoop(int worker) {
  std::unique_lock lock(mutex_);
  for (;;) {
    if (stop_) return;
    if (!tasks_.empty()) {
      Task task = std::move(tasks_.front());
      tasks_.pop_front();
      ++tasks_running_;
      lock.unlock();
      task.run(worker);
      task = {};  // the lease goes without the lock: it may return slots
      lock.lock();
      --tasks_running_;
      if (tasks_.empty() && tasks_running_ == 0) done_wake_.notify_all();
      continue;
    }
    const auto found = std::find_if(active_.begin(), active_.end(), [this](const auto& job) { return HasStrip(*job); });
    if (found == active_.end()) {
      work_wake_.wait(lock);
      continue;
    }
    std::shared_ptr<Job> job = *found;
    ++strips_running_;
    if (job->fold_next < job->fold_strips.size()) {
      FoldStrip(worker, lock, *job, job->fold_strips[job->fold_next++]);
    } else {
      const Strip strip = job->emit_strips[job->emit_next++];
      lock.unlock();
      EmitStrip(worker, *job, strip);
      lock.lock();
      job->parts[strip.piece].run->kept.GiveBack(strip.range.begin / graph::kBlockElements, kept_.get());
      ++job->emit_done;
    }
    Advance(job);
    lock.unlock();
    job = nullptr;  // without the lock: it may be the last to hold it, and return its slots
    lock.lock();
    --strips_running_;  // only now: until its slots are back, the stream is not stuck
  }
}

bool Engine::HasStrip(const Job& job) const {
  if (!job.loaded) return false;
  if (job.fold_next < job.fold_strips.size()) return true;
  return job.fold_done == job.fold_strips.size() && job.unresolved_parts == 0 && job.emit_next < job.emit_strips.size();
}

// The facts that take this block are looked up under the lock: Wants may change where a fact's pass ends, and a fact
// whose pass has ended (no blocks left) is not asked.
void Engine::FoldStrip(int worker, std::unique_lock<std::mutex>& lock, Job& job, Strip strip) {
  GroupRun& run = *job.parts[strip.piece].run;
  std::vector<const GroupRun::Own*> folding;
  for (const GroupRun::Own& own : run.own) {
    if (WantsBlock(*own.run, strip.range.begin / graph::kBlockElements)) folding.push_back(&own);
  }
  const uint64_t block = strip.range.begin / graph::kBlockElements;
  run.kept.TakeRoom(block, kept_.get());
  lock.unlock();
  Evaluator& evaluator = evaluators_[static_cast<size_t>(worker)];
  std::vector<View> in;
  ForEachPiece(strip.range, [&](Range piece) {
    evaluator.Begin(&job.windows, &run.fold_facts, &run.kept, block);
    for (const GroupRun::Own* own : folding) {
      in.clear();
      for (const Node* input : own->fact->inputs()) in.push_back(evaluator.Evaluate(input, piece));
      own->run->fold->Add(worker, piece, in);
    }
  });
  lock.lock();
  std::vector<FactRun*> finished;
  for (const GroupRun::Own* own : folding) {
    if (--own->run->blocks_left == 0) finished.push_back(own->run.get());
  }
  for (FactRun* fact : finished) {
    graph::FactValue value;
    lock.unlock();
    const bool known = fact->fold->Finish(&value);
    graph::FactRecord record = known ? graph::RecordOf(value) : graph::FactRecord();
    lock.lock();
    if (known) Know(*fact, std::move(value), std::move(record));
    if (--run.folding == 0) EndPass(run);
  }
  if (++job.fold_done == job.fold_strips.size()) work_wake_.notify_all();
}

void Engine::EmitStrip(int worker, Job& job, const Strip& strip) {
  const JobPiece& part = job.parts[strip.piece];
  Evaluator& evaluator = evaluators_[static_cast<size_t>(worker)];
  ForEachPiece(strip.range, [&](Range piece) {
    evaluator.Begin(&job.windows, &part.run->facts, &part.run->kept, strip.range.begin / graph::kBlockElements);
    for (size_t i = 0; i < part.run->outs.size(); ++i) {
      if (part.outputs[i] == kStoredOut) continue;
      const Node* out = part.run->outs[i];
      uint8_t* place = job.windows.output(part.outputs[i]) + out->encoding().BytesOf(piece.begin - part.range.begin);
      evaluator.Evaluate(out, piece, place);
    }
  });
}

void Engine::Know(FactRun& fact, graph::FactValue value, graph::FactRecord record) {
  fact.known = true;
  fact.value = std::move(value);
  Shared::Fact& shared = shared_.facts.at(fact.key);
  if (!record.has_value()) {
    shared.while_needed = shared.run;
    shared.run = nullptr;  // the groups that need it have it
  }
  shared.record = std::move(record);
  const std::vector<std::shared_ptr<GroupRun>> waiting = std::move(fact.waiting);
  fact.waiting.clear();
  for (const std::shared_ptr<GroupRun>& run : waiting) {
    if (--run->unknown > 0) {
      // Its own facts may have waited for this one of another group.
      if (run->folding == 0 && !AllOwnKnown(*run)) EndPass(*run);
      continue;
    }
    ResolveGroup(run.get());
    const std::vector<std::shared_ptr<Job>> jobs(active_.begin(), active_.end());
    for (const std::shared_ptr<Job>& job : jobs) {
      if (job->unresolved_parts == 0) continue;
      for (const JobPiece& part : job->parts) {
        if (part.run == run && part.emit) --job->unresolved_parts;
      }
      Advance(job);
    }
  }
  work_wake_.notify_all();
}

// All facts of the group have seen this pass: those that are not known yet go on, over held tiles and over what is read
// again.
void Engine::EndPass(GroupRun& run) {
  if (BeginPass(&run)) {
    SLUICE_CHECK(run.may_repeat);
    ++shared_.fact_passes;
    run.pass_wanted = true;
    for (const std::shared_ptr<Job>& job : active_) {
      for (uint32_t index = 0; index < job->parts.size(); ++index) {
        const JobPiece& part = job->parts[index];
        if (part.run.get() == &run && part.fold && part.emit) AppendFoldStrips(part, index, &job->fold_strips);
      }
    }
    work_wake_.notify_all();
  } else if (AllOwnKnown(run)) {
    shared_.fold_bytes_in_use -= run.fold_state_bytes;
    run.fold_state_bytes = 0;
  }
  WakeIo();
}

void Engine::Advance(const std::shared_ptr<Job>& job) {
  if (!job->loaded || job->done || job->fold_done < job->fold_strips.size()) return;
  if (job->emits && (job->unresolved_parts > 0 || job->emit_done < job->emit_strips.size())) return;
  job->done = true;
  active_.remove(job);

  const size_t kept = job->emits ? job->windows.num_kept_slots() : 0;
  for (size_t slot = kept; slot < job->slots.size(); ++slot) arena_->Return(job->slots[slot]);
  job->slots.resize(kept);
  WakeIo();
  if (!job->emits) {
    ahead_slots_ -= job->windows.num_slots();
    return;
  }
  job->kept_bytes = kept * arena_->slot_bytes();
  job->views.resize(job->parts.size());
  for (size_t i = 0; i < job->parts.size(); ++i) {
    const JobPiece& part = job->parts[i];
    for (size_t out = 0; out < part.run->outs.size(); ++out) {
      const uint8_t* data = nullptr;
      if (part.outputs[out] != kStoredOut) {
        data = job->windows.output(part.outputs[out]);
      } else if (part.range.size() > 0) {
        data = job->windows.Find(static_cast<const graph::StoredNode&>(*part.run->outs[out]), part.range, true);
      }
      job->views[i].push_back({data, part.range});
    }
    job->pieces.push_back(
        {part.run->group, part.range, part.range.begin == 0, part.range.end == part.run->num_elements, job->views[i]});
  }
  done_wake_.notify_all();
}

}  // namespace sluice::stream
