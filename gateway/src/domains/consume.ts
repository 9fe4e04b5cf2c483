// Shell so that the Worker loads until the adaptation engineer writes this file: overwrite it.
import type { Deps } from '../deps.ts'
import type { SampleMessage } from './sample-message.ts'

export async function handleSamples(_deps: Deps, _batch: MessageBatch<SampleMessage>): Promise<void> {}
