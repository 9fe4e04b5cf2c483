import type { DenseModel } from '@copal/gpu-node/model/master/dense-model.ts'
import type { Form } from './engine-contender.ts'

/** Streams of the sparse engine under one mask, measured in rounds with something and without it. */
export interface StreamsLoad {
  model: DenseModel
  maskPath: string
  form: Form
  streams: number
  /** Rounds of each kind. */
  rounds: number
  roundMs: number
}
