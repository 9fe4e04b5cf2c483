import { ADAPTATION_OPERATIONS } from './adaptation-operations.ts'
import { AUDIT_OPERATIONS } from './audit-operations.ts'
import { DASHBOARD_OPERATIONS } from './dashboard-operations.ts'
import { DOMAIN_OPERATIONS } from './domain-operations.ts'
import { DRIFT_OPERATIONS } from './drift-operations.ts'
import { INFERENCE_OPERATIONS } from './inference-operations.ts'
import { KEY_OPERATIONS } from './key-operations.ts'
import type { Operation } from './operation.ts'
import { PROPOSAL_OPERATIONS } from './proposal-operations.ts'
import { REVIEW_OPERATIONS } from './review-operations.ts'
import { SERVICE_OPERATIONS } from './service-operations.ts'

/** All routes except those for nodes, in the order of the reference page. */
export const OPERATIONS: readonly Operation[] = [
  ...INFERENCE_OPERATIONS,
  ...KEY_OPERATIONS,
  ...AUDIT_OPERATIONS,
  ...DOMAIN_OPERATIONS,
  ...PROPOSAL_OPERATIONS,
  ...REVIEW_OPERATIONS,
  ...ADAPTATION_OPERATIONS,
  ...DRIFT_OPERATIONS,
  ...DASHBOARD_OPERATIONS,
  ...SERVICE_OPERATIONS,
]
