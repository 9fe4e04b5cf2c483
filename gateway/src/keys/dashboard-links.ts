import { hmac } from '@copal/shared/wire/hmac.ts'
import type { Actor } from '../contracts/api-key.ts'
import type { Deps } from '../contracts/bindings.ts'
import { findActiveKey } from '../storage/db/queries/key-queries.ts'
import { insertLink, takeLink } from '../storage/db/queries/session-queries.ts'
import { randomToken } from './key-secret.ts'
import { actorOfSignedIn, signedInKey } from './session-key.ts'

/** How long a link is valid. */
const LINK_MS = 5 * 60_000

type LinkDeps = Pick<Deps, 'db' | 'keyPepper' | 'adminKeySha256' | 'nowMs'>

/** Creates the code of a link that signs in once, as `actor`. */
export async function createLink(
  deps: LinkDeps,
  actor: Actor,
): Promise<{ code: string; expiresAtMs: number }> {
  const code = randomToken()
  const nowMs = deps.nowMs()
  const expiresAtMs = nowMs + LINK_MS
  await insertLink(deps.db, {
    hash: await codeHash(deps, code),
    ...(await signedInKey(deps, actor)),
    createdAt: nowMs,
    expiresAt: expiresAtMs,
  })
  return { code, expiresAtMs }
}

/** Uses a code, and returns the actor that it signs in; undefined if it was used, has expired, or its key is no longer valid. */
export async function redeemLink(deps: LinkDeps, code: string): Promise<Actor | undefined> {
  const link = await takeLink(deps.db, await codeHash(deps, code), deps.nowMs())
  if (!link) return undefined
  const key = link.keyId === null ? undefined : await findActiveKey(deps.db, link.keyId)
  return actorOfSignedIn(deps, link, key ?? null)
}

function codeHash(deps: Pick<Deps, 'keyPepper'>, code: string): Promise<string> {
  return hmac(deps.keyPepper, `copal dashboard link ${code}`)
}
