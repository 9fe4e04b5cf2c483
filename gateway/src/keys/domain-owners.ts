import { DEFAULT_DOMAIN } from '@copal/shared/wire/admin-keys.ts'
import type { DomainOwners } from '../contracts/domain-owners.ts'
import { findOwnedDomains, type OwnedDomains } from '../storage/db/queries/domain-queries.ts'

/**
 * Creates the owners that an isolate knows. All owned domains are read at once, so that a flood of domain names costs no calls of
 * the database. `default` belongs to nobody: requests are counted there whose domain belongs to another tenant.
 */
export function createDomainOwners(): DomainOwners {
  let known: OwnedDomains | undefined
  let untilMs = 0
  return {
    async ofOthers({ db, keyTrustMs, nowMs }, tenant) {
      if (!known || untilMs <= nowMs()) {
        const before = known
        known = await findOwnedDomains(db).catch((error: unknown) => {
          if (!before) throw error
          return before
        })
        untilMs = nowMs() + keyTrustMs
      }
      const { owners, masks } = known
      const includes = (domain: string) =>
        domain !== DEFAULT_DOMAIN && (owners.get(domain) ?? tenant) !== tenant
      return {
        includes,
        includesWeights: ({ id, version }) =>
          masks.some((mask) => mask.model === id && mask.version === version && includes(mask.domain)),
      }
    },
  }
}
