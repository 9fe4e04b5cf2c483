// Shell so that the Worker loads until the adaptation engineer writes this file: overwrite it.
import type { Deps } from '../deps.ts'

export async function tick(_deps: Deps): Promise<void> {}
