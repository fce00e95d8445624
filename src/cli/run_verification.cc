#include "cli/run_verification.h"

#include "cli/audit_merge.h"
#include "cli/check_folder.h"
#include "cli/compare_behaviour.h"
#include "cli/compare_models.h"
#include "report/audit_report.h"

namespace sluice::cli {
namespace {

Result<std::optional<Verified>> Audit(Session& session, const VerifyRequest& request) {
  const std::string& folder = request.sides[0].ref;
  SLUICE_ASSIGN(const auto audit,
                AuditMerge(session, {folder, request.audit_sample, request.audit_facts, request.audit_nonce}));
  if (!audit) return std::nullopt;
  Verified verified{.json = report::AuditJson(*audit),
                    .text = report::AuditText(*audit),
                    .status = verify::VerdictExitStatus(audit->verdict)};
  verified.audit_nonce = audit->nonce;
  if (request.for_evidence) {
    VerifiedSide side{.name = "model"};
    SLUICE_ASSIGN(side.model, session.Open(folder));
    SLUICE_ASSIGN(side.watched, WatchedFiles::Of(*side.model, ""));
    verified.sides.push_back(std::move(side));
  }
  return verified;
}

}  // namespace

Result<std::optional<Verified>> RunVerification(Session& session, const VerifyRequest& request) {
  switch (request.form) {
    case VerifyRequest::Form::kModels:
    case VerifyRequest::Form::kFingerprint:
      return CompareModels(session, request);
    case VerifyRequest::Form::kStatement:
    case VerifyRequest::Form::kSignature:
      return CheckFolder(session, request);
    case VerifyRequest::Form::kAudit:
      return Audit(session, request);
    case VerifyRequest::Form::kBehaviour:
      return CompareBehaviour(session, request);
  }
  return std::nullopt;
}

}  // namespace sluice::cli
