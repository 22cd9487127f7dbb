"""Data sets as LightningDataModules, the sampler that grows with training, and the synthetic renderer."""

from latent_lab.data.base import AbstractImageData as AbstractImageData
from latent_lab.data.celeba import CelebA as CelebA
from latent_lab.data.celebahq import CelebAHQ as CelebAHQ
from latent_lab.data.cifar10 import CIFAR10 as CIFAR10
from latent_lab.data.domains import Domain as Domain
from latent_lab.data.domains import OrderedDomains as OrderedDomains
from latent_lab.data.ffhq import FFHQ as FFHQ
from latent_lab.data.image_folder import ImageFolder as ImageFolder
from latent_lab.data.lsun import LSUN as LSUN
from latent_lab.data.mnist import MNIST as MNIST
from latent_lab.data.multi_view import MultiViewImages as MultiViewImages
from latent_lab.data.packing import PackingSummary as PackingSummary
from latent_lab.data.packing import prepare as prepare
from latent_lab.data.synthetic_ageing import SyntheticAgeing as SyntheticAgeing
from latent_lab.data.synthetic_faces import SyntheticFaces as SyntheticFaces
from latent_lab.data.synthetic_views import SyntheticCameraRun as SyntheticCameraRun
from latent_lab.data.synthetic_views import SyntheticViews as SyntheticViews
from latent_lab.data.tiny_imagenet import TinyImageNet as TinyImageNet
