/** One entry of `GET /v1/models`: a model, or a model with one of its weights (`tiny@mask-12`, `tiny@dense`). */
export interface ModelEntry {
  id: string
  object: 'model'
  created: number
  owned_by: 'copal'
  /** Which weights answer now. */
  copal: {
    /** 0 is the dense model. */
    mask_version: number
    sparsity: number
    method: string | null
    pattern: string | null
    domains: string[]
    context_length: number
    nodes: number
  }
}

export interface ModelList {
  object: 'list'
  data: ModelEntry[]
}
