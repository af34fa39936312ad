"""Every value of alphaecoli's configuration, with its meaning.

Other configurations start from this one (`alphaecoli.config.base_config()`) and change what they
need. Units are in the names: `_bp` base pairs, `_bins` bins of 128 bp, `_steps` optimiser steps.
"""

from ml_collections import ConfigDict

from alphaecoli.schema import HEADS


def get_config() -> ConfigDict:
  config = ConfigDict()

  config.data = data = ConfigDict()
  data.dump = "builtin"  # directory with RegulonDB's BSON files, or builtin: E. coli K-12 MG1655
  data.genome = "builtin"  # FASTA file, builtin, or random (explicitly made-up sequence)
  data.stores = ()  # track stores to train on instead, one an organism (alphaecoli.prepare)
  data.store_weights = ()  # their shares of the training windows; empty: equal
  data.circular = True  # the chromosome is a circle; False for a linear contig
  data.window_bp = 98_304  # bases a model sees at once; a multiple of 2048
  data.max_docs_per_file = 0  # read only the first documents of each file; 0 reads all
  data.n_blocks = 20  # regions the chromosome is cut into
  data.n_folds = 10  # folds the regions are dealt to
  data.fold = 0  # fold whose blocks are held out for validation; the next fold is test
  data.block_offset = 0.5  # blocks before the first region of a circle: its origin lies in one
  data.exclude_gene_types = ("phantom",)  # RegulonDB gene types left out
  data.unknown_expression_types = ("rRNA",)  # libraries are depleted of these: no measurement
  data.min_operon_genes = 2  # RegulonDB counts single genes as operons; 1 labels those too
  data.operon_evidence = "all"  # experimental: operons without such evidence are unknown
  data.unlisted_genes = "outside"  # of operons (0), or unknown: genes in no listed operon
  data.min_genes_per_unit = 100  # genes that must have TPM (else FPKM, else counts) in a data set
  data.max_tpm_sum = 1.5e6  # data sets whose TPM sum to more are rescaled to 1e6 and reported
  data.expression_tracks = "mean"  # mean, dataset (one track each) or group:<condition field>
  data.expression_groups = ConfigDict()  # named groups instead: {"heat": ("SRR1", "SRR2")}
  data.stranded = False  # one track per strand: name+ and name-
  data.store_dir = ""  # where track stores are kept; empty: <workdir>/tracks
  data.reverse_complement = 0.5  # probability of reverse complementing a training window
  data.read_threads = 2  # threads that cut windows
  data.prefetch = 8  # windows cut ahead of the step

  config.model = model = ConfigDict()
  model.channels = 768  # features at 1 bp
  model.channel_step = 128  # features added at each halving of the resolution
  model.first_conv_width = 15  # bp
  model.conv_width = 5  # bases or bins of the level
  model.n_layers = 9  # transformer layers
  model.n_heads = 8  # query heads; keys and values are shared by all
  model.key_dim = 128  # features of a query or key
  model.value_dim = 192  # features of a value
  model.mlp_ratio = 2  # hidden over model features
  model.pair_channels = 128  # features of the pair stack
  model.pair_heads = 32  # heads of sequence-to-pair attention
  model.pair_head_dim = 128  # features of each
  model.pair_features = 32  # central-mask features that encode the distance of a pair
  model.pair_every = 2  # layers between pair updates
  model.n_organisms = 1  # rows of the organism embedding
  model.batch_norm_decay = 0.9  # of the running mean square
  model.head_dropout = 0.0  # on the inputs of heads with few labels, in training
  model.head_dropout_of = "base"  # drops each value by itself; window: features of whole windows
  model.compute_dtype = "bfloat16"  # float32 or bfloat16; parameters are float32
  model.remat = True  # recompute blocks in the backward pass: less memory, more work
  model.remat_policy = "blocks"  # recompute all; products: not convolutions; auto: as memory allows

  config.train = train = ConfigDict()
  train.steps = 20_000  # optimiser steps
  train.batch_windows = 8  # windows in a global batch
  train.accumulate_steps = 1  # micro-batches a batch is cut into, one after the other
  train.seed = 0  # of parameters, windows and dropout
  train.ema_decay = 0.0  # of the average of the parameters, which is what is kept; 0: no average

  config.init = init = ConfigDict()
  init.checkpoint = ""  # run, checkpoint or AlphaGenome's parameters to start from
  init.allow_seen = False  # start from a model that was trained on bases held out here
  init.freeze = ""  # parts that do not learn, such as trunk or encoder,tower/layers/0
  init.lora_rank = 0  # of the factors beside the frozen linear maps of the trunk; 0: none
  init.lora_alpha = 16.0  # the factors' product counts lora_alpha / lora_rank times

  config.optimizer = optimizer = ConfigDict()
  optimizer.name = "adamw"  # or muon: orthogonal updates of kernels, AdamW's for the rest
  optimizer.learning_rate = 4e-4  # peak; the same for both rules
  optimizer.warmup_steps = 1_000  # linear, from 0
  optimizer.final_fraction = 0.01  # of the peak, at the end of the cosine
  optimizer.weight_decay = 0.1  # kernels and embeddings; norms and biases are left alone
  optimizer.beta1 = 0.9  # decay of the gradient's mean
  optimizer.beta2 = 0.99  # decay of its square
  optimizer.muon_rms = 0.2  # of Muon's updates before the learning rate; Adam's are about 0.2
  optimizer.clip_norm = 1.0  # global gradient norm

  config.loss = loss = ConfigDict()
  loss.expression_weighting = "gene"  # each gene counts once, or each base: gene or base
  loss.structure_first_steps = 0  # steps in which expression and operons weigh a tenth
  # Weight of each head's loss in the total, as in the table of heads; 0 switches a head off.
  loss.weights = ConfigDict({head.name: head.weight for head in HEADS.values()})

  config.mesh = mesh = ConfigDict()  # devices = data x fsdp x sequence; -1: what is left
  mesh.data = -1  # copies of the model, each with its share of the windows
  mesh.fsdp = 1  # devices that share parameters and optimiser state, and also split windows
  mesh.sequence = 1  # devices that share the positions of one window

  config.checkpoint = checkpoint = ConfigDict()
  checkpoint.every_steps = 1_000  # steps between saves
  checkpoint.keep_last = 3  # newest checkpoints kept
  checkpoint.keep_best = 1  # best on validation kept besides

  config.evaluation = evaluation = ConfigDict()
  evaluation.every_steps = 1_000  # steps between evaluations on validation
  evaluation.batch_windows = 8  # windows at once
  evaluation.both_strands = False  # average windows and their reverse complements: twice the work

  config.log = log = ConfigDict()
  log.every_steps = 20  # steps between log lines
  log.tensorboard = True  # write TensorBoard scalars beside the JSON lines
  log.wandb = ""  # project in Weights & Biases that gets the same scalars; empty: none
  log.compilation_cache = True  # keep compiled programs in <workdir>/jax_cache

  return config
