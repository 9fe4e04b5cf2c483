import type { OverviewReport } from '@copal/shared/wire/admin-overview.ts'
import { formatCount } from '@copal/gpu-node/platform/quantities.ts'

/** Says that an overview does not list all domains; no line where it does. */
export function describeUnlisted({ domains, domain_count: total }: OverviewReport): string[] {
  if (total <= domains.length) return []
  return [
    `The ${formatCount(domains.length)} of ${formatCount(total)} domains with the most requests are listed.`,
  ]
}
