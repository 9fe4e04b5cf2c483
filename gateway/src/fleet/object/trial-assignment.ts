import { spreadHash } from '../../runtime/spread-hash.ts'
import type { TrialKind, Trial } from '../../contracts/trial.ts'

/**
 * Returns whether a conversation (canary) or a request (shadow) belongs to the share of a trial. This depends on its id alone,
 * so that every isolate decides alike and one mask answers a whole conversation. A larger share only adds conversations or
 * requests; another mask selects others.
 */
export function isAssigned(kind: TrialKind, { version, share }: Trial, model: string, id: string): boolean {
  return spreadHash(`${kind}\n${model}\n${version}\n${id}`) < share * 2 ** 32
}
