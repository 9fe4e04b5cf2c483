/** Tests the confirmation of a mask by a second node. */
import { describe, expect, onTestFinished, test, vi } from 'vitest'
import type { PolicyOverrides } from '@copal/shared/wire/admin-policy.ts'
import type { Job, JobReport } from '@copal/shared/wire/adaptation-jobs.ts'
import { sha256 } from '@copal/shared/wire/signature.ts'
import { jobsForNode } from '../../../../gateway/src/adaptation/updates/job-assignment.ts'
import {
  adminJson,
  getUpdate,
  importTexts,
  maskFile,
  signedCall,
  SimulatedNode,
  startUpdate,
  type Scores,
  testDeps,
} from '../../support/doubles/simulated-node.ts'
import { jobRowsOf } from '../../support/state/rows-of.ts'
import { setPolicy } from '../../support/state/seed-masks.ts'
import { verdictsOf } from '../../support/state/verdicts-of.ts'

const FULL = { code: 'internal_error', message: 'No disk space left.' }

describe('with two nodes', () => {
  /**
   * A pair of nodes; the second one reports `changes` for the mask that it selects again, or fails the first time if there is a
   * policy.
   */
  async function pair(
    model: string,
    agreement: number | undefined,
    ratio = 1,
    failing?: Pick<PolicyOverrides, 'confirm'>,
    numerics: readonly (string | undefined)[] = [],
  ) {
    let masks = 0
    let confirmations = 0
    const seen = new Map<string | null, number>([[null, 0]])
    const scores: Scores = ({ mask, id }) => {
      if (!seen.has(mask)) seen.set(mask, ++masks)
      return mask === null ? 2 : 2.3 * (id.includes('-confirm-evaluate-') ? ratio : 1)
    }
    const [one, two] = [
      new SimulatedNode(`${model}-1`, model, scores),
      new SimulatedNode(`${model}-2`, model, scores),
    ]
    for (const [index, node] of [one, two].entries()) {
      node.numerics = numerics[index]
      const done = node.done.bind(node)
      node.done = async (job: Job): Promise<JobReport> => {
        const report = await done(job)
        if (job.kind !== 'calibrate' || !job.compareWith || report.result?.kind !== 'calibrate') return report
        confirmations += 1
        if (failing && confirmations === 1)
          return { id: job.id, state: 'failed', progress: 0, message: '', error: FULL }
        if (agreement === undefined) return report
        const bytes = maskFile(`${job.id} of the other node`)
        const maskSha256 = await sha256(bytes)
        await signedCall('PUT', `/internal/masks/${maskSha256}`, bytes)
        return { ...report, result: { ...report.result, maskSha256, agreement } }
      }
    }
    await one.beat()
    await two.beat()
    if (failing) await setPolicy(model, failing)
    await importTexts(`${model}-a`)
    const { id } = await startUpdate(model, [`${model}-a`])
    for (let turn = 0; turn < 30; turn += 1) {
      for (const node of [one, two]) {
        await node.beat()
        await node.work()
      }
      if ((await getUpdate(id)).finished_at !== null) break
    }
    const jobs = await jobRowsOf(id)
    const nodeOf = (suffix: string) => jobs.find((job) => job.id === id + suffix)?.nodeId
    return { update: await getUpdate(id), nodeOf }
  }

  test('one selects, the other evaluates and selects the same mask again', async () => {
    const { update, nodeOf } = await pair('pair', undefined)
    expect(update.state).toBe('promoted')
    expect(verdictsOf(update).slice(0, 2)).toEqual([
      ['gate', 'passed', 1],
      ['confirm', 'passed', 1],
    ])
    expect(update.decisions?.[1]?.reason).toContain('selected the same mask')
    const selecting = nodeOf('-calibrate')
    expect(selecting).toBeTruthy()
    expect(nodeOf('-evaluate')).not.toBe(selecting)
    expect(nodeOf('-confirm-1')).not.toBe(selecting)
  })

  test('the error of the second one fails the update where the policy demands two nodes', async () => {
    const { update, nodeOf } = await pair('demanded', undefined, 1, { confirm: 2 })
    expect(nodeOf('-confirm-1')).not.toBe(nodeOf('-calibrate'))
    expect(update.error).toEqual({
      code: FULL.code,
      message: `Node '${nodeOf('-confirm-1')}' reports: ${FULL.message}`,
    })
  })

  test('the first one selects the mask again where the second one cannot, and the decision says why', async () => {
    const warn = vi.spyOn(console, 'warn').mockImplementation(() => undefined)
    onTestFinished(() => warn.mockRestore())
    const { update, nodeOf } = await pair('undemanded', undefined, 1, { confirm: 'auto' })
    const [first, second] = ['-calibrate', '-evaluate'].map(nodeOf)
    expect([update.state, nodeOf('-confirm-1')]).toEqual(['promoted', first])
    expect(update.decisions?.find(({ kind }) => kind === 'confirm')?.reason).toBe(
      `Node '${first}' selected the same mask. It is the node that selected it first, because the job failed on another one. ` +
        `Node '${second}' reports: ${FULL.message}`,
    )
  })

  test('a mask with nearly the same bits and losses confirms', async () => {
    const { update } = await pair('near', 0.9995, 1.0005)
    expect(update.state).toBe('promoted')
    const confirmation = update.decisions?.find(({ kind }) => kind === 'confirm')
    expect(confirmation?.verdict).toBe('passed')
    expect(confirmation?.figures[0]).toMatchObject({ name: 'equal mask bits', value: 0.9995, limit: 0.999 })
    expect(confirmation?.figures[1]?.value).toBeCloseTo(0.0005, 9)
  })

  test('the losses of both masks are measured by one node, because another may have other numerics', async () => {
    const { update, nodeOf } = await pair('alike', 0.9995, 1, undefined, [
      'bf16, head int8',
      'int8, head int8',
    ])
    expect(update.state).toBe('promoted')
    expect(nodeOf('-confirm-evaluate-1')).toBe(nodeOf('-evaluate'))
  })

  test.each([
    ['of other bits', 0.99, 1, /99\.000 % of the bits are equal/],
    ['of other losses', 0.9995, 1.002, /losses differ by more than 0\.1 %/],
  ])('a mask %s does not, and the update fails', async (_, agreement, ratio, reason) => {
    const { update } = await pair(`differ-${agreement}`.replace('.', '-'), agreement, ratio)
    expect(update).toMatchObject({ state: 'failed', error: { code: 'gate_failed' } })
    expect(update.error?.message).toMatch(reason)
    expect(verdictsOf(update).at(-1)).toEqual(['confirm', 'failed', 1])
  })
})

test('a policy of two nodes waits for a second one, also after one was lost', async () => {
  const node = new SimulatedNode('strict-1', 'strict')
  await node.beat()
  await adminJson('PUT', '/policy', { model: 'strict', confirm: 2 })
  await importTexts('strict-a')
  const { id } = await startUpdate('strict', ['strict-a'])
  await node.reach(id, 'confirming')
  for (let turn = 0; turn < 3; turn += 1) {
    await node.beat()
    await node.work()
  }
  expect(await getUpdate(id)).toMatchObject({
    state: 'confirming',
    message: 'another node selects m1 again: waiting for a node',
  })
  const other = new SimulatedNode('strict-2', 'strict')
  await other.beat()
  expect(other.jobs).toHaveLength(1)
  await other.beat({ leaving: true })
  // The node that selected the mask would confirm nothing.
  const later = testDeps({ nowMs: () => Date.now() + 20_000 })
  expect(await jobsForNode(later, node.heartbeat())).toEqual([])
  for (let turn = 0; turn < 8; turn += 1) {
    await other.beat()
    await other.work()
    await node.beat()
  }
  expect(await getUpdate(id)).toMatchObject({ state: 'promoted' })
})
