import { env } from 'cloudflare:workers'
import { introspectWorkflowInstance } from 'cloudflare:test'
import { expect, test } from 'vitest'
import { advanceUpdate } from '../../../../gateway/src/adaptation/updates/advance-update.ts'
import { createUpdate } from '../../../../gateway/src/adaptation/updates/update-requests.ts'
import { getUpdate, importTexts, SimulatedNode, testDeps } from '../../support/doubles/simulated-node.ts'

const request = (model: string) => ({
  model,
  domains: [`${model}-a`],
  selection: { scope: 'row' as const },
  samples: 2,
  length: 64,
  seed: 0,
})

/** Creates an update that nothing advances yet. */
async function stored(model: string): Promise<string> {
  return (await createUpdate(testDeps(), request(model))).id
}

test('the workflow advances an update as far as possible without a node, and ends when the update has ended', async () => {
  const node = new SimulatedNode('flow-1', 'flow')
  await node.beat()
  await importTexts('flow-a')
  const id = await stored('flow')
  await using workflow = await introspectWorkflowInstance(env.UPDATE_WORKFLOW, id)
  await workflow.modify(async (change) => change.disableSleeps())
  expect((await getUpdate(id)).state).toBe('collecting')
  const instance = await env.UPDATE_WORKFLOW.create({ id, params: { updateId: id } })
  await workflow.waitForStepResult({ name: 'advance 1' })
  expect(['calibrating', 'evaluating']).toContain((await getUpdate(id)).state)
  await node.finish(id)
  await workflow.waitForStatus('complete')
  expect((await instance.status()).status).toBe('complete')
})

test('the workflow of an update that has ended or does not exist ends at once', async () => {
  const id = `upd_${crypto.randomUUID().replaceAll('-', '')}`
  await using workflow = await introspectWorkflowInstance(env.UPDATE_WORKFLOW, id)
  const instance = await env.UPDATE_WORKFLOW.create({ id, params: { updateId: id } })
  await workflow.waitForStatus('complete')
  expect((await instance.status()).status).toBe('complete')
})

test('without the workflow heartbeats and cron complete an update', async () => {
  const node = new SimulatedNode('alone-1', 'alone')
  await node.beat()
  await importTexts('alone-a')
  const id = await stored('alone')
  await advanceUpdate(testDeps(), id)
  expect(await node.finish(id)).toMatchObject({ state: 'promoted' })
})
