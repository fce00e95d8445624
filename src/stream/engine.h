// Engine: the stream's scheduler. One I/O thread admits jobs and reads; workers take strips of 65,536 elements (or a
// sink's tasks, first) from any job that is ready; the consumer takes finished jobs in queue order. One mutex, no
// barriers; no worker ever waits for memory or I/O.
#pragma once

#include <condition_variable>
#include <cstdlib>
#include <deque>
#include <list>
#include <memory>
#include <mutex>
#include <optional>
#include <thread>
#include <vector>

#include "base/thread_pool.h"
#include "stream/arena.h"
#include "stream/generator.h"
#include "stream/job.h"
#include "stream/stream.h"

namespace sluice::stream {

class Engine final : public Stream, private SlotOwner {
 public:
  Engine(const GroupSource& groups, const StreamOptions& options, Planned planned, std::unique_ptr<Arena> arena,
         std::unique_ptr<Arena> kept, std::unique_ptr<io::BlockReader> reader, std::vector<MemoryLease> leases);
  ~Engine() override;

  const Plan& plan() const override { return plan_; }
  void Enqueue(std::span<const uint32_t> groups) override;
  Result<Lease> Next() override;
  void Post(Lease lease, std::function<void(int worker)> task) override;
  void WaitForPosted() override;
  StreamStats stats() const override;
  graph::FactRecords facts() const override;
  size_t num_groups() const override { return groups_.size(); }

 private:
  struct Task {
    Lease lease;
    std::function<void(int)> run;
  };
  struct Reading {  // a window of a job
    std::shared_ptr<Job> job;
    const Window* window;
  };
  struct Failure {
    uint64_t place;  // jobs before it are still handed out
    Error error;
  };
  void ReturnSlots(std::vector<uint8_t*>&& slots) override;

  // I/O thread.
  void IoLoop();
  std::shared_ptr<Job> Generate(std::unique_lock<std::mutex>& lock);  // lets the lock go meanwhile
  bool CanAdmit(const Job& job) const;
  void Admit(std::shared_ptr<Job> job, std::vector<io::ReadRequest>* requests);
  void CompleteRead(io::ReadCompletion completion);
  bool Stuck() const;

  // Workers.
  void WorkLoop(int worker);
  bool HasStrip(const Job& job) const;
  void FoldStrip(int worker, std::unique_lock<std::mutex>& lock, Job& job, Strip strip);  // lets the lock go meanwhile
  void EmitStrip(int worker, Job& job, const Strip& strip);                               // without the lock

  // Under mutex_ (the shared one).
  bool HasNext() const;
  void Know(FactRun& fact, graph::FactValue value, graph::FactRecord record);
  void EndPass(GroupRun& run);
  void Advance(const std::shared_ptr<Job>& job);
  void Fail(uint64_t place, Error error);
  void Drop(const std::shared_ptr<Job>& job);
  void WakeIo();

  const GroupSource& groups_;
  const StreamOptions options_;
  const Plan plan_;
  const Layout layout_;
  std::unique_ptr<Arena> arena_;
  std::unique_ptr<Arena> kept_;  // for KeptValues; null where there is none
  std::unique_ptr<io::BlockReader> reader_;
  std::vector<MemoryLease> leases_;
  struct Free {
    void operator()(uint8_t* memory) const { std::free(memory); }
  };
  std::vector<std::unique_ptr<uint8_t, Free>> scratch_memory_;
  std::vector<Evaluator> evaluators_;

  mutable Shared shared_;
  std::mutex& mutex_ = shared_.mutex;
  std::condition_variable io_wake_, work_wake_, done_wake_;
  std::deque<std::shared_ptr<Job>> deliver_;  // generated jobs that emit, by place
  std::list<std::shared_ptr<Job>> active_;    // admitted, not done, in order
  std::deque<Task> tasks_;
  uint64_t tasks_running_ = 0, strips_running_ = 0;
  uint64_t next_place_ = 0, next_batch_ = 0;  // to be handed out; to be enqueued
  uint64_t ahead_slots_ = 0;                  // of jobs admitted and not yet handed out, held tiles aside
  bool idle_ = true;                          // the generator has nothing to give and the queue is empty
  bool consumer_waits_ = false, stop_ = false, io_sleeps_ = false;
  bool io_news_ = false;  // something has changed since the I/O thread last looked for what to admit
  std::optional<Failure> failure_;
  StreamStats stats_;

  // I/O thread only.
  Generator generator_;
  std::vector<Reading> reading_;  // by tag; without a job where free
  std::vector<uint32_t> free_tags_;

  std::unique_ptr<ThreadPool> workers_;
  std::thread io_thread_;
};

}  // namespace sluice::stream
