import { readdir, utimes, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { expect, test, vi } from 'vitest'
import { encodeMask } from '@copal/shared/mask/mask-codec.ts'
import type { Heartbeat } from '@copal/shared/wire/heartbeat.ts'
import { commandLine, descendants } from '../../support/processes/service.ts'
import { isStopped, stopAtProgress } from '../../support/faults/stop-at-progress.ts'
import { WAIT } from '../../support/harness/wait.ts'
import {
  heartbeatWhere,
  calibrateJob,
  generate,
  halfMask,
  reportWhere,
  prepareNode,
  weightSetPids,
  prepareWholeNodes,
  withValues,
} from '../../support/processes/whole-node.ts'

prepareWholeNodes()

test('killed during calibration, a node ends in the same mask as one that was not', async () => {
  const undisturbed = await prepareNode()
  undisturbed.gateway.jobs.push(calibrateJob(undisturbed.gateway, 'calm'))
  const calm = await undisturbed.start()
  const expected = await reportWhere(undisturbed.gateway, 'calm', ({ state }) => state === 'done')
  await calm.end()

  const { gateway, start } = await prepareNode()
  gateway.jobs.push(calibrateJob(gateway, 'hunted'))
  const victim = await start(stopAtProgress('calibrating legal, block 1 of'))
  await reportWhere(gateway, 'hunted', ({ state }) => state === 'running')
  const isCalibrating = (pid: number) => commandLine(pid).includes('pruning-child')
  const children = await vi.waitFor(() => {
    const pids = descendants(victim.pid)
    expect(pids.filter(isCalibrating).map(isStopped)).toEqual([true])
    return pids
  }, WAIT)
  await victim.end('SIGKILL')
  for (const pid of children.filter(isCalibrating)) process.kill(pid, 'SIGCONT')
  await vi.waitFor(() => expect(children.filter((pid) => commandLine(pid) !== '')).toEqual([]), WAIT)

  const reborn = await start()
  const report = await reportWhere(gateway, 'hunted', ({ state }) => state === 'done')
  if (report.result?.kind !== 'calibrate' || expected.result?.kind !== 'calibrate')
    throw new Error('not masks')
  expect(report.result.maskSha256).toBe(expected.result.maskSha256)
  expect(gateway.artifacts.has(`masks/${report.result.maskSha256}`)).toBe(true)
  expect(await reborn.end()).toBe(0)
})

test('restarted while the gateway is away, a node serves the last mask it had and converges when the gateway returns', async () => {
  const { gateway, home, start } = await prepareNode()
  const one = gateway.addMask(encodeMask(halfMask(0)))
  // One that brings its values is swapped and rolled back like any other.
  const two = gateway.addMask(encodeMask(withValues(halfMask(1))))
  gateway.desired = { active: { version: 1, sha256: one }, previous: null }
  const first = await start()
  await heartbeatWhere(gateway, (beat) => beat.activeVersion === 1)
  await first.end('SIGKILL')

  // Masks that nobody asks for any more are removed at the start and after a swap, not the one that is served.
  const masks = join(home, 'masks')
  const addOld = async (name: string) => {
    await writeFile(join(masks, name), '')
    await utimes(join(masks, name), 1_000_000_000, 1_000_000_000)
  }
  await utimes(join(masks, `${one}.safetensors`), 1_000_000_000, 1_000_000_000)
  await addOld(`${'c'.repeat(64)}.safetensors`)

  gateway.disconnect()
  const second = await start()
  expect(await readdir(masks)).toEqual([`${one}.safetensors`])
  await addOld(`${'d'.repeat(64)}.safetensors`)
  expect((await second.ready()).activeVersion).toBe(1)
  const alone = await generate(gateway, second, 'request-alone')
  expect(alone.mask).toBe('1')
  expect(gateway.receipts.size).toBe(0)

  gateway.desired = { active: { version: 2, sha256: two }, previous: { version: 1, sha256: one } }
  gateway.reconnect()
  const beat = await heartbeatWhere(gateway, ({ activeVersion }) => activeVersion === 2)
  expect(beat.nodeId).toBe(gateway.heartbeats[0]?.nodeId)
  expect(beat.process).toMatch(/./)
  expect(beat.process).not.toBe(gateway.heartbeats[0]?.process)
  await vi.waitFor(() => expect(gateway.receipts.has('request-alone')).toBe(true), WAIT)
  expect(gateway.receipts.get('request-alone')?.maskVersion).toBe(1)

  const wanted = [one, two].map((sha256) => `${sha256}.safetensors`).sort()
  await vi.waitFor(async () => expect((await readdir(masks)).sort()).toEqual(wanted), WAIT)

  // A roll-back to the warm mask answers as that mask did.
  gateway.desired = { active: { version: 1, sha256: one }, previous: { version: 2, sha256: two } }
  await heartbeatWhere(gateway, ({ activeVersion }) => activeVersion === 1)
  expect((await generate(gateway, second, 'request-back')).text).toBe(alone.text)
})

test('killed during a swap, a node serves the new mask when it returns and leaves no half-made files', async () => {
  const { gateway, home, start } = await prepareNode()
  const sha256 = gateway.addMask(encodeMask(halfMask(0)))
  const victim = await start()
  await heartbeatWhere(gateway, (beat) => beat.activeVersion === 0)
  const before = gateway.heartbeats.length
  // Sent once a heartbeat has told of the load, however late this gateway reads it.
  const { promise: held, resolve: send } = Promise.withResolvers<void>()
  gateway.intercept = ({ url }, response) => {
    if (url !== `/internal/masks/${sha256}`) return false
    void held.then(() => response.end(gateway.artifacts.get(`masks/${sha256}`)))
    return true
  }
  gateway.desired = { active: { version: 1, sha256 }, previous: null }
  await heartbeatWhere(
    gateway,
    (beat) => beat.weightSets.some(({ version, state }) => version === 1 && state === 'loading'),
    before,
  )
  send()
  await vi.waitFor(() => expect(weightSetPids(victim)).toHaveLength(2), WAIT)
  await victim.end('SIGKILL')
  gateway.intercept = undefined
  const reborn = await start()
  expect((await reborn.ready()).activeVersion).toBe(1)
  await heartbeatWhere(
    gateway,
    (beat) => beat.activeVersion === 1 && beat.weightSets.every(({ state }) => state === 'ready'),
    gateway.heartbeats.length,
  )
  expect((await generate(gateway, reborn, 'request-after')).mask).toBe('1')
  expect(await readdir(join(home, 'work', 'tmp'))).toEqual([])
  expect(await readdir(join(home, 'masks'))).toEqual([`${sha256}.safetensors`])
})

test('a weight set whose process is killed comes back, and the same answer with it', async () => {
  const { gateway, start } = await prepareNode()
  gateway.desired = {
    active: { version: 1, sha256: gateway.addMask(encodeMask(halfMask(0))) },
    previous: null,
  }
  const node = await start()
  const isReady = ({ weightSets }: Heartbeat) => weightSets.every(({ state }) => state === 'ready')
  await heartbeatWhere(gateway, (beat) => beat.activeVersion === 1 && isReady(beat))
  const before = await generate(gateway, node, 'request-before')
  // The kill follows a heartbeat, so that no heartbeat is in flight and the next one reports the loss.
  await heartbeatWhere(gateway, () => true, gateway.heartbeats.length)
  const beats = gateway.heartbeats.length
  for (const pid of weightSetPids(node)) process.kill(pid, 'SIGKILL')
  await heartbeatWhere(gateway, (beat) => !isReady(beat), beats)
  await heartbeatWhere(gateway, isReady)
  expect(await generate(gateway, node, 'request-after')).toEqual(before)
})
