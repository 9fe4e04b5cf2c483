/** One entry of `GET /v1/models`; `copal` says which weights answer now. */
export interface ModelEntry {
  id: string
  object: 'model'
  created: number
  owned_by: 'copal'
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
