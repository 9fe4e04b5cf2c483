import type { MaskEntry } from '@copal/shared/wire/admin.ts'
import type { MaskRow } from '../../storage/db/queries/mask-queries.ts'
import type { ModelRow } from '../../storage/db/queries/model-queries.ts'
import { trialsInForce } from '../../storage/db/trials-in-force.ts'

/** Describes a mask for the admin API. */
export function maskEntry(model: ModelRow, mask: MaskRow): MaskEntry {
  const { canary, shadow } = trialsInForce(model)
  return {
    model: mask.model,
    version: mask.version,
    sha256: mask.sha256,
    parent_version: mask.parentVersion,
    method: mask.method,
    pattern: mask.pattern,
    scope: mask.scope,
    sparsity: mask.sparsity,
    churn: mask.churn,
    domains: mask.domains,
    bytes: mask.bytes,
    pinned: mask.pinned,
    swept_at: mask.sweptAt === null ? null : new Date(mask.sweptAt).toISOString(),
    active: mask.version === model.activeVersion,
    previous: mask.version === model.previousVersion,
    canary: mask.version === canary?.version,
    shadow: mask.version === shadow?.version,
    created_at: new Date(mask.createdAt).toISOString(),
    promoted_at: mask.promotedAt === null ? null : new Date(mask.promotedAt).toISOString(),
  }
}
