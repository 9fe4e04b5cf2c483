import type { Actor } from '../contracts/api-key.ts'
import { findActiveKey } from '../storage/db/queries/key-queries.ts'
import { insertLink, takeLink } from '../storage/db/queries/session-queries.ts'
import { createSecret, secretMac, type SecretDeps } from './dashboard-secrets.ts'
import { actorOfSignedIn } from './session-key.ts'

/** How long a link is valid. */
const LINK_MS = 5 * 60_000

/** Creates the code of a link that signs in once, as `actor`. */
export async function createLink(
  deps: SecretDeps,
  actor: Actor,
): Promise<{ code: string; expiresAtMs: number }> {
  const { secret: code, stored } = await createSecret(deps, actor, 'link')
  const expiresAtMs = stored.createdAt + LINK_MS
  await insertLink(deps.db, { ...stored, expiresAt: expiresAtMs })
  return { code, expiresAtMs }
}

/** Uses a code, and returns the actor that it signs in; undefined if it was used, has expired, or its key is no longer valid. */
export async function redeemLink(deps: SecretDeps, code: string): Promise<Actor | undefined> {
  const link = await takeLink(deps.db, await secretMac(deps, 'link', code), deps.nowMs())
  if (!link) return undefined
  const key = link.keyId === null ? undefined : await findActiveKey(deps.db, link.keyId)
  return actorOfSignedIn(deps, link, key ?? null)
}
