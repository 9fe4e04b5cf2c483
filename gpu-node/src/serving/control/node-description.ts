/** The parts of a heartbeat that describe the node and its model. */
import { availableParallelism } from 'node:os'
import type { Heartbeat } from '@copal/shared/wire/heartbeat.ts'
import { processorName } from '../../platform/processor-name.ts'
import { counted } from '../../platform/quantities.ts'
import { MAX_THREADS, type Backend } from '../contract/backend.ts'
import type { Engine } from '../engine/engine-api.ts'

/** Returns the requests and the key/value tokens of an engine. */
export function loadOf(engine: Engine): Omit<Heartbeat['load'], 'tokensPerSecond'> {
  const { running, waiting, kvTokensUsed, kvTokensTotal } = engine.load()
  return { running, waiting, kvTokensUsed, kvTokensTotal, slots: engine.policy.maxRunning }
}

/** Describes the device of a node: GPU or processor and threads, and the backend with its precision and kernel. */
export function describeDevice(backend: Pick<Backend, 'name' | 'device'>, threads: number | null): string {
  const { name } = backend
  const gpu = backend.device?.()
  if (gpu !== undefined) return `${gpu}, ${name}`.slice(0, 128)
  const count = threads ?? Math.min(availableParallelism(), MAX_THREADS)
  return `${processorName()}, ${counted(count, 'thread')}, ${name}`.slice(0, 128)
}
