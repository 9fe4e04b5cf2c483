import { spreadHash } from '../../runtime/spread-hash.ts'
import type { AcquireRequest } from '../../contracts/acquire.ts'
import type { Trial, TrialKind, Trials } from '../../contracts/trial.ts'

/**
 * Returns whether a conversation (canary) or a request (shadow) belongs to the share of a trial. This depends on its id alone,
 * so that every isolate decides alike and one mask answers a whole conversation. A larger share only adds conversations or
 * requests; another mask selects others.
 */
export function isAssigned(kind: TrialKind, { version, share }: Trial, model: string, id: string): boolean {
  return spreadHash(`${kind}\n${model}\n${version}\n${id}`) < share * 2 ** 32
}

/** Returns the version of the mask that a request's domain has for itself; a request that names its weights has none. */
export function ownMaskFor(
  trials: Trials | undefined,
  { version, domain }: Pick<AcquireRequest, 'version' | 'domain'>,
): number | undefined {
  const own = trials?.own
  return version === undefined && own && Object.hasOwn(own, domain) ? own[domain] : undefined
}

/** Returns the version of the canary that must serve a request's conversation; a request that names its weights has none. */
export function canaryFor(
  trials: Trials | undefined,
  {
    model,
    version,
    account,
    conversation = account,
  }: Pick<AcquireRequest, 'model' | 'version' | 'account' | 'conversation'>,
): number | undefined {
  const canary = trials?.canary
  if (!canary || version !== undefined || conversation === undefined) return undefined
  return isAssigned('canary', canary, model, conversation) ? canary.version : undefined
}

/** Returns the version of the shadow that must score a request's output; a request that names its weights has none. */
export function shadowFor(
  trials: Trials | undefined,
  { model, version, requestId }: Pick<AcquireRequest, 'model' | 'version' | 'requestId'>,
): number | undefined {
  const shadow = trials?.shadow
  if (!shadow || version !== undefined) return undefined
  return isAssigned('shadow', shadow, model, requestId) ? shadow.version : undefined
}
