import { spreadHash } from '../../runtime/spread-hash.ts'
import type { TrialKind, Trial } from '../../contracts/trial.ts'

/**
 * Whether a key or a request is in the share of a trial: by its id alone, so that every isolate decides alike. A larger
 * share only adds to those that are in; another mask chooses others.
 */
export function isAssigned(kind: TrialKind, { version, share }: Trial, model: string, id: string): boolean {
  return spreadHash(`${kind}\n${model}\n${version}\n${id}`) < share * 2 ** 32
}
