import type { ModelName } from '@copal/shared/wire/model-name.ts'
import type { Deps } from './bindings.ts'

/** The owners of domains, as an isolate knows them: a change is known within `keyTrustMs`. */
export interface DomainOwners {
  /**
   * Returns what belongs to other tenants than this one.
   *
   * @throws the error of the database if the owners were never read
   */
  ofOthers(deps: Pick<Deps, 'db' | 'keyTrustMs' | 'nowMs'>, tenant: string): Promise<DomainsOfOthers>
}

/** What belongs to other tenants than a given one. */
export interface DomainsOfOthers {
  /** Returns whether a domain does. */
  includes(domain: string): boolean
  /** Returns whether weights do: those of a mask that serves only such a domain. */
  includesWeights(model: ModelName): boolean
}
