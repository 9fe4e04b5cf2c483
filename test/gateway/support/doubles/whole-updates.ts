import { env } from 'cloudflare:workers'
import { expect } from 'vitest'
import type { CalibrateJob } from '@copal/shared/wire/adaptation-jobs.ts'
import type { Heartbeat } from '@copal/shared/wire/heartbeat.ts'
import { openDatabase } from '../../../../gateway/src/storage/db/open-database.ts'
import { findJob } from '../../../../gateway/src/storage/db/queries/job-queries.ts'
import { wholeJob } from '../../../../gateway/src/adaptation/updates/calibration-input.ts'
import { readDataset } from '../../../../gateway/src/storage/artifacts/datasets.ts'
import { SimulatedNode, startUpdate, testDeps } from './simulated-node.ts'

/** Creates the first node of a model, which has sent a heartbeat. */
export async function newNode(model: string): Promise<SimulatedNode> {
  const node = new SimulatedNode(`${model}-1`, model)
  await node.beat()
  return node
}

/** Returns the calibration job of an update's first candidate. */
export async function calibrationOf(updateId: string): Promise<CalibrateJob> {
  const job = await findJob(openDatabase(env.DB), `${updateId}-calibrate`)
  if (!job) throw new Error(`update ${updateId} has no calibration`)
  return (await wholeJob(testDeps(), job)) as CalibrateJob
}

/** Runs a whole update, which is promoted, and returns its calibration job. */
export async function runUpdate(
  node: SimulatedNode,
  model: string,
  domains: string[],
): Promise<CalibrateJob> {
  const { id } = await startUpdate(model, domains)
  expect((await node.finish(id)).state).toBe('promoted')
  return calibrationOf(id)
}

/** Returns the texts of a dataset; none if it is deleted. */
export async function textsOf(hash = ''): Promise<string[]> {
  return ((await readDataset(testDeps(), hash)) ?? []).map(({ text }) => text)
}

/** The part of a heartbeat which says that these mask versions are loaded. */
export function ready(...versions: number[]): Pick<Heartbeat, 'weightSets'> {
  return { weightSets: versions.map((version) => ({ version, state: 'ready', requests: 0 })) }
}
