import type { KernelName, KvPrecision, Precision } from '../../../native/addon.d.ts'
import type { DenseModel } from '../../model/master/dense-model.ts'
import type { FormSetting } from './sparse/form-choice.ts'

/** The engine and the weights of a background process; sent by structured clone. */
export interface BackgroundSparseOptions extends Pick<DenseModel, 'config' | 'master'> {
  /** Where it runs: on the processor, or on a GPU, which `device` names. */
  engine: 'sparse' | 'gpu'
  device?: string | undefined
  threads?: number | undefined
  kernel?: KernelName | undefined
  precision: Precision
  headPrecision: Precision
  /** How keys and values are stored on the processor; f16 by default, which is all that a GPU has. */
  kvPrecision?: KvPrecision | undefined
  /** Form of pruned weights; `packed` by default. */
  form?: FormSetting | undefined
  /** Maximum tokens of keys and values, as many as fit into memory; one context by default. */
  kvTokens?: number | undefined
  version: number
  maskPath: string | null
}
