import { expect, test } from 'vitest'
import { hmac } from '@copal/shared/wire/hmac.ts'
import { sha256Hex } from '@copal/shared/wire/identifiers.ts'
import { createAttestations } from '../../../../gateway/src/fleet/auth/attestations.ts'

const DAY_MS = 86_400_000
const START_MS = Date.UTC(2026, 10, 28)
const SECRET = 'a secret of the gateway'
const request = { requestId: 'req_12345678', account: 'key_1', model: 'm', domain: 'legal' }
const call = { nodeId: 'node-1', subject: { request } }

function setup() {
  const clock = { nowMs: START_MS }
  const attestations = createAttestations([SECRET], { totalMs: 1_800_000, nowMs: () => clock.nowMs })
  return { clock, attestations }
}

test('an attestation is valid for its call only, for a week, so that receipts of an outage count', async () => {
  const { clock, attestations } = setup()
  const attestation = await attestations.issue(call)
  // As nodes of earlier versions expect.
  expect(sha256Hex.safeParse(attestation).success).toBe(true)
  const others = [
    { ...call, nodeId: 'node-2' },
    { ...call, subject: { request: { ...request, account: 'key_2' } } },
    { ...call, subject: { request: { ...request, requestId: 'req_12345679' } } },
  ]
  for (const other of others) expect(await attestations.verify(attestation, other)).toBe(false)
  clock.nowMs += 7 * DAY_MS - 1
  expect(await attestations.verify(attestation, call)).toBe(true)
  clock.nowMs += 1_001
  expect(await attestations.verify(attestation, call)).toBe(false)
})

test('the time of an attestation cannot be changed', async () => {
  const { clock, attestations } = setup()
  const attestation = await attestations.issue(call)
  clock.nowMs += 8 * DAY_MS
  const fresh = await attestations.issue({ ...call, nodeId: 'node-2' })
  expect(await attestations.verify(fresh.slice(0, 8) + attestation.slice(8), call)).toBe(false)
})

test('a response is cached until ten minutes after the longest response', async () => {
  const { clock, attestations } = setup()
  const answer = { tenant: 't', key: 'a'.repeat(64), ttlMs: 1_000 }
  const attestation = await attestations.issue({ nodeId: 'node-1', subject: { answer } })
  clock.nowMs += 2_400_000
  expect(await attestations.verify(attestation, { nodeId: 'node-1', subject: { answer } })).toBe(true)
  clock.nowMs += 1_000
  expect(await attestations.verify(attestation, { nodeId: 'node-1', subject: { answer } })).toBe(false)
})

test('an attestation tells the origin of its request, which cannot be changed', async () => {
  const { attestations } = setup()
  for (const origin of [
    { conversation: 0, namesWeights: false },
    { conversation: 2 ** 32 - 1, namesWeights: true },
  ]) {
    const attestation = await attestations.issue(call, origin)
    expect(sha256Hex.safeParse(attestation).success).toBe(true)
    expect(await attestations.read(attestation, call)).toEqual(origin)
    const changed = attestation.slice(0, 8) + '00000001' + attestation.slice(16)
    expect(await attestations.read(changed, call)).toBeUndefined()
  }
  expect(await attestations.read(await attestations.issue(call), call)).toEqual({ namesWeights: false })
})

test('an attestation of a gateway that told no origin is valid', async () => {
  const { attestations } = setup()
  const facts = JSON.stringify(['node-1', 'request', ...Object.values(request)])
  const time = (START_MS / 1000).toString(16).padStart(8, '0')
  const mac = await hmac(SECRET, `copal attestation 2\n${time}\n${facts}`)
  const attestation = time + mac.slice(0, 56)
  expect(await attestations.read(attestation, call)).toEqual({})
  expect(await attestations.verify(attestation, { ...call, nodeId: 'node-2' })).toBe(false)
})
