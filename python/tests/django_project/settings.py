SECRET_KEY = "of a test"
INSTALLED_APPS = ["library"]
DATABASES = {"default": {"ENGINE": "sqlite_ivf.django", "NAME": "library.db"}}
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
USE_TZ = True
