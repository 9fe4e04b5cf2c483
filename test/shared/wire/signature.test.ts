import { expect, test } from 'vitest'
import { AppError } from '@copal/shared/errors.ts'
import { MAX_SKEW_MS, claimedNodeId, sign, verify } from '@copal/shared/wire/signature.ts'

const SECRET = 'the secret of today'
const NEXT = 'the secret of tomorrow'
const NOW = 1_800_000_000_000
const body = new TextEncoder().encode('{"a":1}')
const request = {
  nodeId: 'node-a',
  to: 'node' as 'node' | 'gateway',
  method: 'POST',
  path: '/rpc/x?y=1',
  body,
}

/** Returns the error message of verifying a signature; undefined when it is valid. */
async function signatureError(
  header: string | null,
  changes: Partial<typeof request> = {},
  { secrets = [SECRET], nowMs = NOW }: { secrets?: string[]; nowMs?: number } = {},
): Promise<string | undefined> {
  try {
    await verify(secrets, { ...request, ...changes }, header, nowMs)
    return undefined
  } catch (error) {
    if (error instanceof AppError && error.code === 'invalid_signature') return error.message
    throw error
  }
}

test('a signature is valid for its node, method, path and body only', async () => {
  const header = await sign(SECRET, request, NOW)
  expect(await signatureError(header)).toBeUndefined()
  expect(await signatureError(header, { method: 'post' })).toBeUndefined()
  for (const changes of [{ method: 'PUT' }, { path: '/rpc/x' }, { body: new Uint8Array([1]) }])
    expect(await signatureError(header, changes)).toContain('The signature does not match.')
  expect(await signatureError(header, { nodeId: 'node-b' })).toContain(
    "signed for node 'node-a' but reached node 'node-b'",
  )
  expect(await signatureError(header, { to: 'gateway' })).toContain('reached the gateway')
  // Changing the recipient in the header invalidates the signature.
  expect(await signatureError(header.replace('node-a', 'node-b'), { nodeId: 'node-b' })).toContain(
    'does not match',
  )
})

test('a call by a node cannot be replayed to it, although both directions use its secret', async () => {
  const header = await sign(SECRET, { ...request, to: 'gateway' }, NOW)
  expect(await signatureError(header, { to: 'gateway' })).toBeUndefined()
  expect(await signatureError(header)).toContain("signed for the gateway but reached node 'node-a'")
  expect(await signatureError(header.replace('to=gateway', 'to=node'))).toContain('does not match')
  expect(claimedNodeId(header)).toBe('node-a')
})

test('clocks may differ by a minute; a larger difference is reported', async () => {
  const header = await sign(SECRET, request, NOW)
  expect(await signatureError(header, {}, { nowMs: NOW + MAX_SKEW_MS })).toBeUndefined()
  expect(await signatureError(header, {}, { nowMs: NOW - MAX_SKEW_MS })).toBeUndefined()
  expect(await signatureError(header, {}, { nowMs: NOW + 95_000 })).toContain(
    "signed 95 s ago according to the recipient's clock",
  )
  expect(await signatureError(header, {}, { nowMs: NOW - 95_000 })).toContain('signed 95 s in the future')
})

test('while a secret is being replaced both are valid, and afterwards only the new one', async () => {
  const old = await sign(SECRET, request, NOW)
  const young = await sign(NEXT, request, NOW)
  for (const secrets of [
    [SECRET, NEXT],
    [NEXT, SECRET],
  ])
    for (const header of [old, young]) expect(await signatureError(header, {}, { secrets })).toBeUndefined()
  expect(await signatureError(young, {}, { secrets: [NEXT] })).toBeUndefined()
  expect(await signatureError(old, {}, { secrets: [NEXT] })).toContain('does not match')
})

const MAC = '0'.repeat(64)
test.each([
  null,
  '',
  'nonsense',
  `t=1,v1=${MAC}`,
  `t=1,node=a,to=node,v3=${'G'.repeat(64)}`,
  `t=1,node=a b,to=node,v3=${MAC}`,
  `t=1,node=${'a'.repeat(65)},to=node,v3=${MAC}`,
  `t=1,node=a,to=node:a,v3=${MAC}`,
])('an invalid signature header is rejected: %s', async (header) =>
  expect(await signatureError(header)).toContain("has no valid 'x-copal-signature' header"),
)

test('a signature of the earlier scheme is rejected with what to upgrade', async () => {
  expect(await signatureError(`t=1,to=gateway,v2=${MAC}`)).toMatch(
    /Upgrade gateway and nodes.*docs\/operations\.md/,
  )
})
