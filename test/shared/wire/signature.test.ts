import { expect, test } from 'vitest'
import { AppError } from '@copal/shared/errors.ts'
import { MAX_SKEW_MS, sign, verify } from '@copal/shared/wire/signature.ts'

const SECRET = 'the secret of today'
const NEXT = 'the secret of tomorrow'
const NOW = 1_800_000_000_000
const body = new TextEncoder().encode('{"a":1}')
const request = { nodeId: 'node-a', method: 'POST', path: '/rpc/x?y=1', body }

/** What is said of a signature; undefined when it is good. */
async function fault(
  header: string | null,
  changes: Partial<typeof request> | { nodeId: undefined } = {},
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

test('a signature holds for its node, method, path and body, and for nothing else', async () => {
  const header = await sign(SECRET, request, NOW)
  expect(await fault(header)).toBeUndefined()
  expect(await fault(header, { method: 'post' })).toBeUndefined()
  for (const changes of [{ method: 'PUT' }, { path: '/rpc/x' }, { body: new Uint8Array([1]) }])
    expect(await fault(header, changes)).toContain('The signature does not match.')
  expect(await fault(header, { nodeId: 'node-b' })).toContain(
    "signed for 'node:node-a' and reached 'node:node-b'",
  )
  expect(await fault(header, { nodeId: undefined })).toContain("reached 'gateway'")
  // Who renames the recipient has not signed for it.
  expect(await fault(header.replace('node-a', 'node-b'), { nodeId: 'node-b' })).toContain('does not match')
})

test('a call to the gateway is not one to a node of that name', async () => {
  const header = await sign(SECRET, { ...request, nodeId: undefined }, NOW)
  expect(await fault(header, { nodeId: undefined })).toBeUndefined()
  expect(await fault(header, { nodeId: 'gateway' })).toContain("reached 'node:gateway'")
})

test('clocks may differ by a minute, and what differs by more is told', async () => {
  const header = await sign(SECRET, request, NOW)
  expect(await fault(header, {}, { nowMs: NOW + MAX_SKEW_MS })).toBeUndefined()
  expect(await fault(header, {}, { nowMs: NOW - MAX_SKEW_MS })).toBeUndefined()
  expect(await fault(header, {}, { nowMs: NOW + 95_000 })).toContain('signed 95 s ago by the clock here')
  expect(await fault(header, {}, { nowMs: NOW - 95_000 })).toContain('signed 95 s in the future')
})

test('while a secret is replaced both are good, and afterwards the new one alone', async () => {
  const old = await sign(SECRET, request, NOW)
  const young = await sign(NEXT, request, NOW)
  for (const secrets of [
    [SECRET, NEXT],
    [NEXT, SECRET],
  ])
    for (const header of [old, young]) expect(await fault(header, {}, { secrets })).toBeUndefined()
  expect(await fault(young, {}, { secrets: [NEXT] })).toBeUndefined()
  expect(await fault(old, {}, { secrets: [NEXT] })).toContain('does not match')
})

test.each([null, '', 'nonsense', `t=1,v1=${'0'.repeat(64)}`, `t=1,to=node:a,v2=${'G'.repeat(64)}`])(
  'what is no signature is refused: %s',
  async (header) => expect(await fault(header)).toContain('is required'),
)
