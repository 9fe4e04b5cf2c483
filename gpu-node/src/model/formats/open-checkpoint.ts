import type { Checkpoint } from './checkpoint.ts'
import { openGgufCheckpoint } from './gguf.ts'
import { openSafetensors } from './safetensors.ts'

/** Opens the weights of a model in the format of its file. */
export function openCheckpoint(path: string): Promise<Checkpoint> {
  return path.endsWith('.gguf') ? openGgufCheckpoint(path) : openSafetensors(path)
}
